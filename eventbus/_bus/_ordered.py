"""Ordered subscriptions: what threads and tasks share. When a handler is called, and what its outcome means.

A failing delivery is tried again in its place: it stays unsettled at the broker while it waits here, and its key with
it. A copy at the end of the queue, which is what other subscriptions make, would be overtaken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import msgspec

from eventbus._bus._core import Served
from eventbus._bus._keyed import KeyedLine, Turn
from eventbus._bus._sharing import Sharing
from eventbus._keys import key_of
from eventbus._message import Incoming
from eventbus._settlement import MAX_ATTEMPT, Requeue, RetryIn, Settlement
from eventbus.transport import AsyncLink, ConsumerSpec, SyncLink

MAX_PAUSE = 900.0
"""Longest pause in place, in seconds: brokers take a delivery back that stays open too long (RabbitMQ: 30 minutes)."""

REQUEUE_PAUSE = 1.0
"""Before a delivery is tried again whose handler wants it given back: without it, it would come at once, for ever."""

REJOIN_SECONDS = 0.5

Begin = Callable[[Turn[Incoming]], None]


class Lane:
    """Listener of one queue of an ordered subscription."""

    def __init__(self, owner: Ordered, number: int, spec: ConsumerSpec) -> None:
        self._owner = owner
        self.number = number
        self.spec = spec
        self.since: float | None = None
        """When the broker began to hand us its messages, as far as we know; monotonic seconds."""
        self.leaving = False
        self.released = False

    def delivered(self, incoming: Incoming, /) -> None:
        self._owner.arrived(self, incoming)

    def started(self, queue: str, /) -> None:
        """Nothing to do: whether it is ours, the first delivery shows."""

    def stopped(self, error: Exception | None, /) -> None:
        self._owner.stopped(self, error)


class Ordered:
    """The deliveries of one ordered subscription.

    ``begin`` runs a turn's handler in a thread or task, which asks :meth:`handled` for the next one. ``guard`` is a
    lock where there are threads. The link is never called under it.
    """

    def __init__(
        self, served: Served, link: SyncLink | AsyncLink, begin: Begin, guard: AbstractContextManager[object]
    ) -> None:
        subscription = served.subscription
        self.served = served
        self._link = link
        self._begin = begin
        self._guard = guard
        self._by_hand = subscription.settle == "manual"
        self._line: KeyedLine[Incoming] = KeyedLine(subscription.concurrency)
        # The turns that are not over, by the identity of their items: what a delivery was opened with settles it.
        self._turns: dict[int, Turn[Incoming]] = {}
        self._lanes = [Lane(self, number, spec) for number, spec in enumerate(subscription.consumers())]
        self.halted = False
        members = subscription.members()
        self._sharing = None if members is None else Sharing(self, link, members, len(self._lanes))

    def consume(self) -> None:
        """Begin."""
        for lane in self._lanes:
            self._link.consume(lane.spec, lane)
        if self._sharing is not None:
            self._sharing.start()

    @property
    def busy(self) -> int:
        """Handlers at work."""
        return self._line.running

    @property
    def idle(self) -> bool:
        """Whether no handler runs and none could."""
        return self._line.idle

    @property
    def parked(self) -> int:
        """Deliveries that wait for their time or their key."""
        with self._guard:
            return self._line.parked

    # -- a delivery's way ---------------------------------------------------------------------------------

    def arrived(self, lane: Lane, incoming: Incoming) -> None:
        """A message has come."""
        with self._guard:
            if lane.leaving:
                return  # it stays unsettled, and goes back in its place when the consumer is released
            if lane.since is None:
                lane.since = time.monotonic()
            turn = self._line.put(lane.number, key_of(incoming.message), incoming)
            self._turns[id(incoming)] = turn
            turns = list(self._line.take())
        self._begin_all(turns)

    def settle(self, incoming: Incoming, settlement: Settlement) -> None:
        """A handler's outcome, or a settlement by hand."""
        pause = pause_of(settlement)
        with self._guard:
            turn = self._turns.get(id(incoming))
        if pause is None:
            self._link.settle(incoming, settlement)
        if turn is None or turn.over:
            return
        if pause is not None:
            self._try_again(turn, incoming, settlement, pause)
            return
        with self._guard:
            self._over(turn)
            turns = [] if turn.running else list(self._line.take())
        self._begin_all(turns)

    def _try_again(self, turn: Turn[Incoming], incoming: Incoming, settlement: Settlement, pause: float) -> None:
        with self._guard:
            self._line.hold(turn)
            if not turn.held:
                return  # the broker has taken it back, or is about to
            if isinstance(settlement, RetryIn):
                del self._turns[id(incoming)]
                turn.item = next_attempt(incoming)
                self._turns[id(turn.item)] = turn
        if pause:
            self._link.later(pause, partial(self._resume, turn))
        else:
            self._resume(turn)

    def _resume(self, turn: Turn[Incoming]) -> None:
        with self._guard:
            self._line.resume(turn)
            turns = list(self._line.take())
        self._begin_all(turns)

    def handled(self, turn: Turn[Incoming]) -> Turn[Incoming] | None:
        """The handler has ended. Gives the turn that its thread or task goes on with."""
        with self._guard:
            waits = turn.held or turn.again or (self._by_hand and not turn.lost)
            self._line.ended(turn)
            if not waits:
                self._over(turn)  # where it could not be settled, its key must go on all the same
            turns = list(self._line.take())
            quiet = self._quiet_lanes()
        self._release(quiet)
        self._begin_all(turns[1:])
        return turns[0] if turns else None

    def _over(self, turn: Turn[Incoming]) -> None:
        self._line.finish(turn)
        self._turns.pop(id(turn.item), None)

    def _begin_all(self, turns: list[Turn[Incoming]]) -> None:
        for turn in turns:
            self._begin(turn)

    # -- giving lanes up ----------------------------------------------------------------------------------

    def stopped(self, lane: Lane, error: Exception | None) -> None:
        """A consumer is gone: by a lost connection, or because it was released."""
        with self._guard:
            self._line.forget(lane.number)
            self._turns = {key: turn for key, turn in self._turns.items() if turn.lane != lane.number}
            lane.since = None
            again = lane.released and error is None and not self.halted
            if error is None or not lane.released:
                lane.leaving = lane.released = self.halted
            turns = list(self._line.take())
        self._begin_all(turns)
        if again:
            # At the end of the line of those who wait for this queue.
            self._link.later(REJOIN_SECONDS, partial(self._rejoin, lane))

    def _rejoin(self, lane: Lane) -> None:
        if not self.halted:
            self._link.consume(lane.spec, lane)

    def halt(self) -> None:
        """Begin no more, and let each queue go as soon as none of its messages is at work."""
        with self._guard:
            self.halted = True
            for lane in self._lanes:
                self._leave(lane)
            quiet = self._quiet_lanes()
        self._release(quiet)

    def held_since(self) -> list[float]:
        """Of the queues whose messages we get: since when."""
        with self._guard:
            return [lane.since for lane in self._lanes if lane.since is not None and not lane.leaving]

    def hand_over(self, count: int, before: float) -> None:
        """Leave so many queues, of those that are ours since ``before``, to other processes; the least busy first."""
        with self._guard:
            ours = [lane for lane in self._lanes if lane.since is not None and lane.since <= before]
            ours = [lane for lane in ours if not lane.leaving]
            for lane in sorted(ours, key=lambda lane: self._line.running_in(lane.number))[:count]:
                self._leave(lane)
            quiet = self._quiet_lanes()
        self._release(quiet)

    def _leave(self, lane: Lane) -> None:
        lane.leaving = True
        for turn in self._line.forget(lane.number):
            self._turns.pop(id(turn.item), None)

    def _quiet_lanes(self) -> list[Lane]:
        quiet = [
            lane
            for lane in self._lanes
            if lane.leaving and not lane.released and not self._line.running_in(lane.number)
        ]
        for lane in quiet:
            lane.released = True
        return quiet

    def _release(self, lanes: list[Lane]) -> None:
        for lane in lanes:
            self._link.release(lane.spec.name)


def pause_of(settlement: Settlement) -> float | None:
    """How long a delivery waits in its place before it is tried again; None where it is settled for good."""
    if isinstance(settlement, RetryIn):
        return min(settlement.delay, MAX_PAUSE)
    return REQUEUE_PAUSE if isinstance(settlement, Requeue) else None


def next_attempt(incoming: Incoming) -> Incoming:
    """The delivery as the handler gets it the next time."""
    return msgspec.structs.replace(
        incoming,
        attempt=min(incoming.attempt + 1, MAX_ATTEMPT),
        first_seen=incoming.first_seen if incoming.first_seen is not None else time.time(),
    )
