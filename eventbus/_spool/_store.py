"""The store's side of a spool: its queue, what is put there, and how much lies in it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from eventbus._errors import NotSent, PublishError
from eventbus._message import Incoming, Message
from eventbus._spool._copies import read_notice
from eventbus._spool._values import SpoolSettings
from eventbus._topology import DEAD_SUFFIX, UNLIMITED_DELIVERIES, Queue
from eventbus.transport import (
    AsyncLink,
    ConsumerSpec,
    InspectsQueues,
    LinkStatus,
    Phase,
    QueueCount,
    SyncLink,
)

CONSUMER = "(spool)"
NOTICES = "(spool notices)"
PREFETCH = 200

Done = Callable[[PublishError | None], None]


class Listener(Protocol):
    """What a store tells the spool of its bus."""

    def delivered(self, incoming: Incoming, /) -> None:
        """A message from the spool."""

    def gone(self, released: bool, /) -> None:
        """The deliveries so far have gone back: the consumer is lost, or was released."""

    def store_ready(self, again: bool, /) -> None:
        """Copies can be put there; ``again``: notices on their way are lost."""

    def store_broken(self, error: Exception | None, /) -> None:
        """The store cannot be used, and trying again will not help; None: it can again."""

    def marker_out(self, bus: str, marker: int, /) -> None:
        """A notice about a marker has come."""


class Store:
    """What a bus knows of its spool's store. Its methods are called in their turn; callbacks come from the link."""

    def __init__(self, settings: SpoolSettings, listener: Listener) -> None:
        self.queue = settings.queue
        self.address = ""
        self.depth = 0
        """Events in the spool, as far as this bus knows."""
        self.storing = 0
        """Copies on their way there."""
        self._error: Exception | None = None
        self.link: SyncLink | AsyncLink
        self._most = settings.max_messages
        self._listener = listener
        self._running = False
        self._was_ready = False
        self._broken: Exception | None = None
        self._parked: deque[tuple[Message, float, Done]] = deque()
        self._yielding = False
        self._puts = 0
        self._counts = threading.Lock()

    @property
    def error(self) -> Exception | None:
        """Why it does not take what it is given; None while it does."""
        return self._full() if self.depth >= self._most else self._error

    @property
    def broken(self) -> bool:
        """Whether it cannot be used at all."""
        return self._broken is not None

    def _full(self) -> NotSent:
        return NotSent(f"it is full: {self.depth} events (max_messages={self._most})")

    # -- its two consumers ------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, and take what comes out of the spool."""
        self.link.open()
        notices = Queue(name="", type="classic", durable=False, exclusive=True, auto_delete=True)
        self.link.consume(
            ConsumerSpec(name=NOTICES, queue=notices, prefetch=100, auto_ack=True, replies=True), _Notices(self)
        )
        self._consume()

    def _consume(self) -> None:
        # One at a time of all buses that share it, or their events would overtake one another. What comes back keeps
        # its place only with a delivery limit.
        queue = Queue(
            name=self.queue,
            dead_letter=self.queue + DEAD_SUFFIX,
            delivery_limit=UNLIMITED_DELIVERIES,
            single_active_consumer=True,
        )
        self.link.consume(ConsumerSpec(name=CONSUMER, queue=queue, prefetch=PREFETCH, ordered=True), _Events(self))

    def look_for_others(self, found: Callable[[], None]) -> None:
        """Call when other buses wait for their turn to send what is in the spool."""
        self.link.count_consumers(
            self.queue, lambda consumers: found() if consumers is not None and consumers > 1 else None
        )

    def yield_turn(self) -> None:
        """Give back what is here, and line up again behind the others."""
        self._yielding = True
        self.link.release(CONSUMER)

    def changed(self, status: LinkStatus) -> None:
        """The store's link has another state."""
        if status.phase is not Phase.READY and status.error is not None:
            self._error = status.error
        errors = [status.error] if status.phase is Phase.FAILED else []
        errors += [consumer.error for consumer in status.consumers.values() if consumer.phase is Phase.FAILED]
        broken, self._broken = self._broken, next((error for error in errors if error is not None), None)
        if self._broken is not None:
            self._error = self._broken
            self._refuse(lambda deadline: True)
        if (broken is None) is not (self._broken is None):
            self._listener.store_broken(self._broken)

    # -- copies -----------------------------------------------------------------------------------------

    def keep(self, message: Message, deadline: float, done: Done) -> None:
        """Put a copy there, if there is room."""
        with self._counts:
            full = self.depth + self.storing >= self._most
            if not full:
                self.storing += 1
                self._puts += 1
        if full:
            done(self._full())
            return
        self.put(message, deadline, partial(self._stored, done))

    def put(self, message: Message, deadline: float, done: Done) -> None:
        """Put a message there; one that comes too early waits for the queue to be there."""
        if self._broken is not None:
            done(NotSent(str(self._broken)))
        elif self._was_ready:
            self.link.publish(message, deadline=deadline, done=done)
        else:
            self._parked.append((message, deadline, done))

    def _stored(self, done: Done, error: PublishError | None) -> None:
        with self._counts:
            self.storing -= 1
            self.depth += error is None
        self._error = error
        done(error)

    def unpark(self) -> None:
        """The queue is there: everything that has waited for it, in order."""
        self._was_ready = True
        self._error = None
        parked, self._parked = self._parked, deque()
        for message, deadline, done in parked:
            self.link.publish(message, deadline=deadline, done=done)

    def refuse_late(self, now: float) -> None:
        """End what has waited too long for the queue."""
        self._refuse(lambda deadline: deadline <= now)

    def _refuse(self, late: Callable[[float], bool]) -> None:
        parked, self._parked = self._parked, deque()
        for message, deadline, done in parked:
            if late(deadline):
                why = self._broken or self._error or "its store is not ready"
                done(NotSent(str(why)))
            else:
                self._parked.append((message, deadline, done))

    # -- how much ---------------------------------------------------------------------------------------

    def taken(self) -> None:
        """One event less."""
        with self._counts:
            self.depth = max(0, self.depth - 1)

    def counted(self, depth: int, puts: int) -> None:
        """So many there were. Where copies were on their way meanwhile, our own sum is nearer."""
        with self._counts:
            self.depth = depth if puts == self._puts and not self.storing else max(depth, self.depth)

    def count(self, done: Callable[[int, int], None]) -> None:
        """Ask how many wait there, apart from those at consumers."""
        puts = self._puts if not self.storing else -1

        def counted(found: QueueCount | Exception) -> None:
            if isinstance(found, QueueCount):
                done(found.ready, puts)

        if self._running and isinstance(self.link, InspectsQueues):
            self.link.count(CONSUMER, counted)

    # -- what the link tells ----------------------------------------------------------------------------

    def _began(self) -> None:
        if self._running and self.address:
            self._listener.store_ready(self._was_ready)


class _Events:
    """Listener of the queue of events."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def delivered(self, incoming: Incoming, /) -> None:
        self._store._listener.delivered(incoming)

    def started(self, queue: str, /) -> None:
        self._store._running = True
        self._store._began()

    def stopped(self, error: Exception | None, /) -> None:
        store = self._store
        store._running = False
        if error is not None:
            store._error = error
        released = error is None and store._yielding
        store._listener.gone(released)
        if released:  # it may begin again, behind the others
            store._yielding = False
            store._consume()


class _Notices:
    """Listener of the queue of notices."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def delivered(self, incoming: Incoming, /) -> None:
        notice = read_notice(incoming.message)
        if notice is not None:
            self._store._listener.marker_out(notice.bus, notice.marker)

    def started(self, queue: str, /) -> None:
        self._store.address = queue
        self._store._began()

    def stopped(self, error: Exception | None, /) -> None:
        self._store.address = ""
