"""Where an async link's deliveries go: each subscription's listener, and the tasks that work for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import Any

from eventbus._bus._async_handling import AsyncHandling
from eventbus._bus._batched import Batched
from eventbus._bus._core import Served
from eventbus._bus._keyed import Turn
from eventbus._bus._ordered import Ordered
from eventbus._message import Incoming
from eventbus._settlement import Settlement
from eventbus.transport import AsyncLink

Spawn = Callable[[Served, Coroutine[Any, Any, None]], None]
HandleBy = Callable[[Callable[[Incoming, Settlement], None]], AsyncHandling]
"""A handling whose deliveries are settled by the given function."""


class Feed:
    """Listener of one subscription: at most ``concurrency`` tasks; further arrivals wait in order."""

    parked = 0

    def __init__(self, served: Served, link: AsyncLink, handling: AsyncHandling, spawn: Spawn) -> None:
        self.served = served
        self.free = served.subscription.concurrency
        self.waiting: deque[Incoming] = deque()
        self._link = link
        self._handling = handling
        self._spawn = spawn

    def consume(self) -> None:
        """Begin."""
        for spec in self.served.subscription.consumers():
            self._link.consume(spec, self)

    @property
    def idle(self) -> bool:
        """Whether nothing waits; what is at work are the runtime's tasks."""
        return not self.waiting

    def delivered(self, incoming: Incoming, /) -> None:
        if self.free:
            self.free -= 1
            self._spawn(self.served, self._work(incoming))
        else:
            self.waiting.append(incoming)

    def started(self, queue: str, /) -> None:
        """Nothing to do."""

    def stopped(self, error: Exception | None, /) -> None:
        # The broker hands these out again; to handle them now would only make duplicates.
        self.waiting.clear()

    def halt(self) -> None:
        """What no handler has begun goes back."""
        while self.waiting:
            self._handling.dispatch.give_back(self.waiting.popleft())

    async def _work(self, incoming: Incoming) -> None:
        # The task keeps its slot while work is waiting, which spares a task for each delivery.
        handling, served = self._handling, self.served
        try:
            while True:
                await handling.one(served, incoming)
                if not self.waiting:
                    return
                incoming = self.waiting.popleft()
        finally:
            self.free += 1
            # Only an error that no handler should raise gets here with work waiting; it must not be left behind.
            if self.waiting and not handling.draining:
                self.delivered(self.waiting.popleft())


def async_ordered(served: Served, link: AsyncLink, handle_by: HandleBy, spawn: Spawn) -> Ordered:
    """An ordered subscription on a loop."""

    def begin(turn: Turn[Incoming]) -> None:
        spawn(served, work(turn))

    async def work(turn: Turn[Incoming]) -> None:
        following: Turn[Incoming] | None = turn
        while following is not None:
            turn = following
            try:
                await handling.one(served, turn.item)
            finally:
                following = ordered.handled(turn)

    ordered = Ordered(served, link, begin, nullcontext())
    handling = handle_by(ordered.settle)
    return ordered


def async_batched(served: Served, link: AsyncLink, handling: AsyncHandling, spawn: Spawn) -> Batched:
    """A batched subscription on a loop."""

    def begin(batch: list[Incoming]) -> None:
        spawn(served, work(batch))

    async def work(batch: list[Incoming]) -> None:
        following: list[Incoming] | None = batch
        while following is not None:
            batch = following
            try:
                await handling.batch(served, batch)
            finally:
                following = batched.handled()

    batched = Batched(served, link, begin, handling.dispatch.give_back, nullcontext())
    return batched
