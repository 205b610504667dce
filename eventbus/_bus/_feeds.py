"""Where a sync link's deliveries go: each subscription's listener, and the threads that work for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from eventbus._bus._batched import Batched
from eventbus._bus._core import Served
from eventbus._bus._handling import Handling
from eventbus._bus._keyed import Turn
from eventbus._bus._ordered import Ordered
from eventbus._bus._workers import Slots, Workers
from eventbus._message import Incoming
from eventbus._settlement import Settlement
from eventbus.transport import SyncLink

HandleBy = Callable[[Callable[[Incoming, Settlement], None]], Handling]
"""A handling whose deliveries are settled by the given function."""


class Feed:
    """Listener of one subscription: hands arrivals to its slots."""

    parked = 0

    def __init__(
        self, served: Served, link: SyncLink, handling: Handling, workers: Workers, freed: Callable[[], None]
    ) -> None:
        self.served = served
        self._link = link
        self._handling = handling
        self._slots = Slots(served.subscription.concurrency, workers, partial(handling.one, served), freed)

    def consume(self) -> None:
        """Begin."""
        for spec in self.served.subscription.consumers():
            self._link.consume(spec, self)

    @property
    def busy(self) -> int:
        """Handlers at work."""
        return self._slots.busy

    @property
    def idle(self) -> bool:
        """Whether no handler runs, and so nothing waits."""
        return not self._slots.busy

    def delivered(self, incoming: Incoming, /) -> None:
        self._slots.put(incoming)

    def started(self, queue: str, /) -> None:
        """Nothing to do."""

    def stopped(self, error: Exception | None, /) -> None:
        # The broker hands these out again; to handle them now would only make duplicates.
        self._slots.clear()

    def halt(self) -> None:
        """What no handler has begun goes back."""
        for incoming in self._slots.clear():
            self._handling.dispatch.give_back(incoming)


def sync_ordered(
    served: Served, link: SyncLink, handle_by: HandleBy, workers: Workers, freed: Callable[[], None]
) -> Ordered:
    """An ordered subscription on threads."""

    def work(turn: Turn[Incoming]) -> None:
        following: Turn[Incoming] | None = turn
        while following is not None:
            handling.one(served, following.item)
            following = ordered.handled(following)
        freed()

    ordered = Ordered(served, link, partial(workers.submit, work), threading.Lock())
    handling = handle_by(ordered.settle)
    return ordered


def sync_batched(
    served: Served, link: SyncLink, handling: Handling, workers: Workers, freed: Callable[[], None]
) -> Batched:
    """A batched subscription on threads."""

    def work(batch: list[Incoming]) -> None:
        following: list[Incoming] | None = batch
        while following is not None:
            handling.batch(served, following)
            following = batched.handled()
        freed()

    batched = Batched(served, link, partial(workers.submit, work), handling.dispatch.give_back, threading.Lock())
    return batched
