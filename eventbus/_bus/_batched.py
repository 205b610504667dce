"""Batched subscriptions: what threads and tasks share. When a batch is handed to the handler."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from eventbus._bus._core import Served
from eventbus._bus._gathering import Gathering
from eventbus._message import Incoming
from eventbus.transport import AsyncLink, SyncLink


class Batched:
    """Listener of one batched subscription.

    ``begin`` handles a batch in a thread or task, which asks :meth:`handled` for the next one; ``give_back`` returns a
    delivery to the broker. ``guard`` is a lock where there are threads; nothing else is called under it.
    """

    def __init__(
        self,
        served: Served,
        link: SyncLink | AsyncLink,
        begin: Callable[[list[Incoming]], None],
        give_back: Callable[[Incoming], None],
        guard: AbstractContextManager[object],
    ) -> None:
        subscription = served.subscription
        assert subscription.batch is not None
        self.served = served
        self._link = link
        self._begin = begin
        self._give_back = give_back
        self._guard = guard
        self._gathering: Gathering[Incoming] = Gathering(
            subscription.batch.size, subscription.batch.wait, subscription.concurrency
        )
        self._timed = 0
        """The last item that a timer was set for."""
        self._halted = False

    def consume(self) -> None:
        """Begin."""
        for spec in self.served.subscription.consumers():
            self._link.consume(spec, self)

    @property
    def busy(self) -> int:
        """Handlers at work."""
        return self._gathering.running

    @property
    def idle(self) -> bool:
        """Whether no handler runs."""
        return not self._gathering.running

    @property
    def parked(self) -> int:
        """Deliveries that wait for the rest of their batch, or for their time."""
        return self._gathering.waiting

    def delivered(self, incoming: Incoming, /) -> None:
        with self._guard:
            halted = self._halted
            something_to_do = not halted and self._gathering.put(incoming, time.monotonic())
        if halted:
            self._give_back(incoming)
        elif something_to_do:
            self._go_on()

    def started(self, queue: str, /) -> None:
        """Nothing to do."""

    def stopped(self, error: Exception | None, /) -> None:
        # The broker hands these out again; to handle them now would only make duplicates.
        with self._guard:
            self._gathering.clear()

    def handled(self) -> list[Incoming] | None:
        """A handler has ended. Gives the batch that its thread or task goes on with."""
        with self._guard:
            self._gathering.ended()
            batch = self._gathering.take(time.monotonic())
        self._go_on()
        return batch

    def halt(self) -> None:
        """Begin no more; what is in no batch goes back."""
        with self._guard:
            self._halted = True
            items = self._gathering.clear()
        for incoming in items:
            self._give_back(incoming)

    def _go_on(self) -> None:
        """Begin the batches that are there; for the next one, which is not full, wait."""
        batches: list[list[Incoming]] = []
        with self._guard:
            now = time.monotonic()
            while (batch := self._gathering.take(now)) is not None:
                batches.append(batch)
            number, seconds = self._gathering.next_due(now) or (0, 0.0)
            timed, self._timed = self._timed, max(self._timed, number)
        for batch in batches:
            self._begin(batch)
        if number > timed:
            self._link.later(seconds, partial(self._time_is_over, number))

    def _time_is_over(self, number: int) -> None:
        with self._guard:
            self._gathering.overdue(number)
        self._go_on()
