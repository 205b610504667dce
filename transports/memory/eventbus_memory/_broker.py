"""The broker: the core's rules behind one lock, and its callbacks outside of it, in order."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import msgspec

from eventbus._errors import ConnectionFailed, PublishError
from eventbus.transport import Binding, Exchange, Incoming, Message, Queue, Settlement

from ._clock import Cancellable, Clock, SystemClock
from ._core import Core
from ._queue import Consumer

log = logging.getLogger("eventbus.memory")

_CROWD = 100
"""Callbacks waiting for the thread that makes them before others wait for it too."""


_all: weakref.WeakSet[MemoryBroker] = weakref.WeakSet()


class QueueSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A queue at one moment: numbers of messages that wait, that are at consumers, and of consumers."""

    name: str
    type: str
    ready: int
    unsettled: int
    consumers: int


class Connection(Protocol):
    """What a broker knows of a link: it can be cut off, and comes back."""

    def cut(self, core: Core, error: Exception) -> None:
        """The connection is lost. Called under the broker's lock."""

    def come_back(self, core: Core) -> None:
        """Connect again. Called under the broker's lock, after all links were cut."""


class MemoryBroker:
    """A RabbitMQ in this process. All methods may be called from any thread.

    Consumers are called outside of the lock, by one thread at a time, in the order in which the
    broker decided: every change appends its callbacks to an outbox, and the thread that made the change
    empties the outbox, unless another one is doing so (then that one makes these calls too). A listener
    that publishes or settles therefore never meets itself.
    """

    def __init__(self, *, clock: Clock | None = None, queue_type: Literal["quorum", "classic"] = "quorum") -> None:
        _all.add(self)
        self._begin(clock, queue_type)

    def _begin(self, clock: Clock | None, queue_type: Literal["quorum", "classic"]) -> None:
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.queue_type = queue_type
        self.lock = threading.Lock()
        self._core = Core(self.clock, queue_type, self._later)
        self._outbox = self._core.outbox
        self._delivering = threading.Lock()
        self._deliverer = 0
        self._connections: dict[Connection, None] = {}

    # -- what links do ------------------------------------------------------------------------------------

    def publish(self, message: Message, *, twice: bool = False) -> PublishError | None:
        """Route the message; None when all its queues have it. Never raises."""
        with self.lock:
            outcome = self._core.publish(message, twice=twice)
        if self._outbox:
            self.flush()
        return outcome

    def settle(self, incoming: Incoming, settlement: Settlement) -> bool:
        """Carry out what became of a delivery; False when it cannot be settled any more."""
        with self.lock:
            settled = self._core.settle(incoming, settlement)
        if self._outbox:
            self.flush()
        return settled

    @contextmanager
    def step(self) -> Iterator[Core]:
        """Several changes as one; callbacks are made at the end."""
        try:
            with self.lock:
                yield self._core
        finally:
            self.flush()

    def attach(self, connection: Connection) -> None:
        """A link is open; time passes as long as one is."""
        with self.lock:
            self._connections[connection] = None
        if isinstance(self.clock, SystemClock):
            self.clock.attach()

    def detach(self, connection: Connection, timeout: float) -> None:
        """The link is closed."""
        with self.lock:
            known = connection in self._connections
            self._connections.pop(connection, None)
        if known and isinstance(self.clock, SystemClock):
            self.clock.detach(timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Make the callbacks that are due, unless another thread does; with a timeout wait for that one."""
        me = threading.get_ident()
        while self._outbox or timeout is not None:
            if self._deliverer == me:
                return  # called by a listener: the loop below goes on when it returns
            if not self._delivering.acquire(blocking=False):
                if timeout is None and len(self._outbox) < _CROWD:
                    return
                # Publishers that are faster than the one that delivers wait for it, for a while:
                # otherwise it would deliver for them for ever. Not without limit, as the caller
                # might hold a lock that a listener wants.
                if not self._delivering.acquire(timeout=0.01 if timeout is None else timeout):
                    return
            timeout = None
            self._deliverer = me
            try:
                self._empty_outbox()
            finally:
                self._deliverer = 0
                self._delivering.release()

    def _empty_outbox(self) -> None:
        outbox = self._outbox
        while outbox:
            call, argument = outbox.popleft()
            try:
                call(argument)
            except Exception:
                log.exception("a listener raised")

    def _later(self, when: float, call: Callable[[], None]) -> Cancellable:
        def locked() -> None:
            with self.lock:
                call()
            self.flush()

        return self.clock.call_at(when, locked)

    # -- for tests and tools ------------------------------------------------------------------------------

    def publish_raw(self, message: Message) -> PublishError | None:
        """Publish the message as it stands, past links and their faults; the outcome, None when taken."""
        return self.publish(message)

    def declare(self, declared: Exchange | Queue | Binding) -> str:
        """Declare an exchange, a queue or a binding; gives the name, which the broker chooses for a queue without."""
        with self.step() as core:
            if isinstance(declared, Exchange):
                core.declare_exchange(declared)
            elif isinstance(declared, Binding):
                core.bind(declared)
            else:
                return core.declare(declared)
        return getattr(declared, "name", "")

    def consume(self, queue: str, consumer: Consumer) -> None:
        """Subscribe a consumer of a test's own."""
        with self.step() as core:
            core.subscribe(consumer, queue, None)

    def drop(self, consumer: Consumer) -> None:
        """End the consumer as a crash would: what is at it goes back to its queue."""
        with self.step() as core:
            core.drop(consumer)

    def get(self, queue: str, holder: Consumer) -> Incoming | None:
        """Take the next message of a queue, as basic.get does; None when there is none. ``holder`` has it then."""
        with self.step() as core:
            return core.take(core.queue(queue), holder)

    def queue(self, name: str) -> QueueSnapshot:
        """The queue as it is now; ConfigurationError when there is none."""
        with self.step() as core:
            queue = core.queue(name)
            core.expire(queue)
            return QueueSnapshot(
                name=name,
                type=queue.properties.type,
                ready=len(queue.ready),
                unsettled=queue.unsettled,
                consumers=len(queue.consumers),
            )

    def queues(self) -> list[str]:
        """The names of all queues."""
        with self.lock:
            return list(self._core.queues)

    def messages(self, name: str) -> list[Message]:
        """The messages that wait in a queue, the next one to be delivered first."""
        with self.step() as core:
            queue = core.queue(name)
            core.expire(queue)
            return [entry.message for entry in queue.ready]

    def purge(self, name: str) -> int:
        """Delete the messages that wait in a queue; says how many."""
        with self.lock:
            return self._core.queue(name).ready.clear()

    def delete_queue(self, name: str) -> None:
        """Delete a queue and its messages; links declare it again if they consume it."""
        with self.step() as core:
            core.delete_queue(core.queue(name))

    def exchanges(self) -> list[Exchange]:
        """All exchanges but the default one, the broker's own first."""
        with self.lock:
            return list(self._core.exchanges.values())

    def disconnect(self, error: Exception | None = None) -> None:
        """Every link loses its connection, and connects again at once."""
        error = error or ConnectionFailed("the connection was cut (disconnect of the in-memory broker)")
        with self.step() as core:
            connections = list(self._connections)
            for connection in connections:
                connection.cut(core, error)
            for connection in connections:
                connection.come_back(core)


def _empty_in_child() -> None:
    """Memory does not cross processes: a forked child has brokers without the parent's links and messages."""
    for broker in list(_all):
        broker._begin(None if isinstance(broker.clock, SystemClock) else broker.clock, broker.queue_type)


os.register_at_fork(after_in_child=_empty_in_child)
