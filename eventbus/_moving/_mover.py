"""Moving messages from one link to another, written once: a generator that yields what it waits for.

A message is published at the destination, confirmed there, and only then acked at the source. There is no other state:
whatever ends this, what is not acked is at the source, which hands it out again as redelivered.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable

import msgspec

from eventbus._errors import ConnectionFailed, PublishError, TopologyMismatch, Unroutable
from eventbus._message import Incoming
from eventbus._moving._carrying import fate_of
from eventbus._moving._emptying import Emptying
from eventbus._moving._flow import Consumer, Flow, Item, Side
from eventbus._moving._preparing import Preparing, gone
from eventbus._moving._sending import Sending
from eventbus._moving._values import Choice, MovedQueue, MoveReport, Place
from eventbus._settlement import ACK
from eventbus._steps import Flush, Ready, Steps, Stop, Wait
from eventbus._topology import Queue, Topology
from eventbus.transport import ConsumerSpec

LONGEST_WAIT = 0.2  # so that a stop is seen soon: a signal handler sets a flag, and wakes nobody
MAX_PROBLEMS = 20


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a move is to go. Times are seconds; ``rate`` is messages a second, None without a limit."""

    choice: Choice
    rate: float | None = None
    limit: int | None = None
    dry_run: bool = False
    follow: bool = False
    window: int = 200
    timeout: float = 10.0
    patience: float = 300.0
    moved: Callable[[str, str], None] | None = None


class Mover:
    """One move, from its first step to its report. ``stopping`` says whether somebody wants it to end."""

    def __init__(
        self, plan: Plan, topology: Topology | None, wake: Callable[[], None], stopping: Callable[[], bool]
    ) -> None:
        self._plan = plan
        self._wake = wake
        self._stopping = stopping
        self.source, self.destination = Side("source", wake), Side("destination", wake)
        self._preparing = Preparing(self.source, self.destination, topology, wake)
        self._sending = Sending(self.destination, window=plan.window, rate=plan.rate, timeout=plan.timeout, wake=wake)
        self._emptying = Emptying(self.source, wake=wake, busy=lambda: self._busy, stopping=stopping, note=self._note)
        self._flows: list[Flow] = []
        self._inbox: deque[tuple[Consumer, Incoming | Exception]] = deque()
        self._waiting: deque[Item] = deque()
        self._moved = 0
        self._ending = False
        self._progress = 0.0
        self._last: Exception | None = None
        self._missing: list[str] = []
        self._problems: dict[str, int] = {}
        self._names = itertools.count(1)

    # -- the whole --------------------------------------------------------------------------------------

    def steps(self) -> Steps[MoveReport]:
        """Move what is meant; gives the report."""
        yield from self._preparing.open()
        places = yield from self._preparing.places(self._plan.choice)
        present: list[tuple[Place, int]] = []
        for place in places:
            waiting = yield from self._preparing.waiting(place)
            if waiting is None:
                self._missing.append(place.name)
            else:
                present.append((place, waiting))
        absent = yield from self._preparing.missing(tuple(place for place, _ in present))
        if self._plan.dry_run:
            for place in self._preparing.unknown(absent):
                self._note(gone(place))
            counted = [MovedQueue(name=place.name, moved=waiting) for place, waiting in present]
            return (yield from self._report(places, counted, False))
        yield from self._preparing.declare(absent)
        self._flows = [Flow(place) for place, _ in present]
        for flow in self._flows:
            self._consume(flow)
        yield Ready(self.source.link)
        self._progress = time.monotonic()
        try:
            interrupted = yield from self._move()
            yield from self._end()
        except Exception as error:
            error.add_note(f"{self._moved} messages were moved before; the others are where they were")
            raise
        return (yield from self._report(places, [flow.report() for flow in self._flows], interrupted))

    def _move(self) -> Steps[bool]:
        """Until the queues are empty, or enough was moved (gives True if something may be left there)."""
        while not self._stopping():
            self._hear()
            while (item := self._sending.next_of(self._waiting, self._full)) is not None:
                self._send(item)
            self._check()
            if self._full and not self._sending.count:
                return True
            if not self._busy and not self._plan.follow:
                if (yield from self._emptying.all(self._flows)):
                    return False
            elif not self._sending.ready_outcomes:
                rests = self._sending.rests
                yield Wait(min(LONGEST_WAIT, rests) if rests > 0 else LONGEST_WAIT)
        return True

    def _end(self) -> Steps[None]:
        """Take no more from the source; wait for the outcomes under way, and see to it that they are settled."""
        self._ending = True
        yield Stop(self.source.link)
        self._hear()
        while self._sending.open:  # not for ever: each has its deadline
            yield Wait(LONGEST_WAIT)
            self._hear()
        yield Flush(self.source.link)

    def _report(self, places: tuple[Place, ...], queues: list[MovedQueue], interrupted: bool) -> Steps[MoveReport]:
        return MoveReport(
            queues=tuple(queues),
            problems=tuple(f"{text} ({number})" for text, number in self._problems.items()),
            missing=tuple(self._missing),
            shared=tuple(sorted(self._emptying.shared)),
            beside=(yield from self._preparing.beside(places)),
            interrupted=interrupted,
            dry_run=self._plan.dry_run,
        )

    # -- what has come ----------------------------------------------------------------------------------

    def _hear(self) -> None:
        lost = False
        while self._inbox:
            consumer, what = self._inbox.popleft()
            if isinstance(what, Incoming):
                self._waiting.append(Item(what, consumer))
                consumer.flow.quiet_since = self._progress = time.monotonic()
            else:
                # What it had brought is back at the source, and comes again.
                consumer.life += 1
                consumer.held = 0
                self._last, lost = what, True
        if lost:
            self._waiting = deque(item for item in self._waiting if not item.stale)
            self._sending.forget_stale()
        for item, error in self._sending.outcomes():
            if error is None:
                self._confirmed(item)
            else:
                self._refused(item, error)

    def _confirmed(self, item: Item) -> None:
        self.source.link.settle(item.incoming, ACK)
        self._progress = time.monotonic()
        if item.stale:
            return  # the source hands it out once more, and then it is marked
        flow = item.consumer.flow
        flow.moved += 1
        flow.marked += item.marked
        self._moved += 1
        if self._plan.moved is not None:
            self._plan.moved(flow.place.name, item.incoming.message.id)

    def _refused(self, item: Item, error: PublishError) -> None:
        place = item.consumer.flow.place
        fate = fate_of(error, place)
        if fate == "end":
            if isinstance(error, Unroutable):
                raise TopologyMismatch(gone(place)) from error
            raise error
        if fate == "left":
            self._leave(item, str(error))
            return
        item.sent = item.sent or fate == "marked"
        self._last = error
        self._sending.failed(item)

    def _leave(self, item: Item, problem: str) -> None:
        """It stays at the source; what holds it there must not keep others from coming."""
        consumer, flow = item.consumer, item.consumer.flow
        self._note(f"{flow.place.name}: {problem}")
        if not item.stale:
            consumer.held += 1
            if consumer.held >= consumer.prefetch and consumer is flow.consumers[-1] and not self._ending:
                self._consume(flow)

    def _note(self, problem: str) -> None:
        if problem not in self._problems and len(self._problems) >= MAX_PROBLEMS:
            problem = "and more"
        self._problems[problem] = self._problems.get(problem, 0) + 1

    # -- what goes --------------------------------------------------------------------------------------

    def _send(self, item: Item) -> None:
        problem = item.incoming.problem
        if problem is None:
            self._sending.send(item)
        else:
            self._leave(item, f"a message that cannot be read cannot be moved either ({problem})")

    @property
    def _full(self) -> bool:
        """Whether enough is moved or under way."""
        return self._plan.limit is not None and self._moved + self._sending.count >= self._plan.limit

    @property
    def _busy(self) -> bool:
        return bool(self._waiting or self._inbox or self._sending.count)

    def _check(self) -> None:
        """Raise what ends the move: what trying again does not mend, or no progress for too long."""
        for side in (self.source, self.destination):
            side.check()
        now = time.monotonic()
        if self._sending.paced or (not self._busy and self.source.ready and self.destination.ready):
            self._progress = now
        if now - self._progress > self._plan.patience:
            broken = next((side for side in (self.source, self.destination) if not side.ready), None)
            error = (broken.error if broken is not None else None) or self._last
            where = f"the {broken.name}: " if broken is not None else ""
            raise ConnectionFailed(f"nothing was moved for {self._plan.patience:g} s; {where}{error}") from error

    def _consume(self, flow: Flow) -> None:
        """Let one consumer more take messages of this queue."""
        most = self._plan.window if self._plan.limit is None else min(self._plan.window, self._plan.limit)
        prefetch = max(1, most // len(self._flows))
        consumer = Consumer(f"move-{next(self._names)}", flow, prefetch, self._inbox, self._wake)
        flow.consumers.append(consumer)
        flow.quiet_since = time.monotonic()
        queue = Queue(name=flow.place.name)
        spec = ConsumerSpec(name=consumer.name, queue=queue, prefetch=prefetch, inspect=True)
        self.source.link.consume(spec, consumer)
