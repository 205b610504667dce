"""What sync and async links share of the contract: the methods that do not wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from eventbus._errors import (
    BusClosed,
    ConfigurationError,
    ConnectionFailed,
    NotSent,
    PublishError,
    TopologyMismatch,
)
from eventbus._rules.publishing import oversize
from eventbus.transport import (
    SCHEDULED,
    ConsumerListener,
    ConsumerSpec,
    ConsumerStatus,
    Incoming,
    Message,
    Phase,
    QueueCount,
    Settlement,
    Topology,
)

from ._consuming import Consuming
from ._holding import Claim
from ._state import LinkState
from ._store import Store
from ._tables import check_exists
from ._work import Effect, Publish, Settle, Task

Done = Callable[[PublishError | None], None]


class BaseLink(LinkState):
    """A link without its way of waiting: its engine does all that takes time."""

    def open(self) -> None:
        """Begin to open the file. Idempotent."""
        with self._lock:
            if self._phase is not Phase.IDLE:
                return
            self._phase = Phase.CONNECTING
        self._engine.open()

    def declare(self, topology: Topology) -> None:
        """Add exchanges and bindings that publishing needs."""
        with self._lock:
            self._topology = self._topology.merged(topology)
            running = self._phase is Phase.READY
        if running:
            self._put(self._declaring(topology))

    def publish(self, message: Message, *, deadline: float, done: Done) -> None:
        """Send one message; ``done`` gets its outcome after the commit."""
        work = self._accepted(message, deadline, done)
        if work is not None:
            self._put(work)

    def _accepted(self, message: Message, deadline: float, done: Done) -> Publish | None:
        error: PublishError | None = None
        if self._phase in (Phase.CLOSED, Phase.CLOSING):
            error = BusClosed("the link is closed")
        elif self._phase is Phase.IDLE:
            error = NotSent("the link is not open")
        elif self._phase is Phase.FAILED:
            error = NotSent(f"the file cannot be used: {self._error}")
        else:
            error = oversize(message, self._max_body)
        if error is not None:
            done(error)
            return None
        return Publish(message, deadline, done)

    def consume(self, spec: ConsumerSpec, listener: ConsumerListener) -> None:
        """Keep this consumer running from now on."""
        with self._lock:
            if self._phase in (Phase.CLOSED, Phase.CLOSING):
                return
            if spec.name in self._consuming:
                raise ConfigurationError(f"there is a consumer {spec.name!r} already")
            consuming = self._consuming[spec.name] = Consuming(spec, listener)
            running = self._phase is Phase.READY
        if running:
            self._put(self._starting(consuming))

    def settle(self, incoming: Incoming, settlement: Settlement) -> None:
        """Tell the file what became of a delivery; a second time, or too late, it is only counted."""
        token = incoming.token
        if isinstance(token, Claim):
            self._engine.put(Settle(token, incoming, settlement))

    def release(self, name: str) -> None:
        """End one consumer; what it holds goes back to its queue in one step."""
        with self._lock:
            consuming = self._consuming.pop(name, None)
            if consuming is None:
                return
            consuming.cancelled = True

        def run(store: Store) -> Effect:
            if consuming.id is not None:
                store.take_back("consumer", consuming.id)
            self._remove(store, consuming)

            def effect() -> None:
                consuming.stopped(ConsumerStatus(phase=Phase.CLOSED))
                self.post([partial(consuming.listener.stopped, None)])
                self._announce()

            return effect

        self._put(Task(run))

    def count_consumers(self, queue: str, done: Callable[[int | None], None]) -> None:
        """How many consumers a queue has; None where there is no queue."""

        def run(store: Store) -> Effect:
            known = store.queues.get(queue)
            count = None if known is None else len(known.consumers)
            return partial(self.post, [partial(done, count)])

        self._put(Task(run))

    def count(self, consumer: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """What is in the queue of one of the link's consumers, once the settlements before are carried out."""

        def run(store: Store) -> Effect:
            consuming = self._consuming.get(consumer)
            answer: QueueCount | Exception = ConnectionFailed(f"consumer {consumer!r} does not run")
            if consuming is not None and consuming.id is not None:
                answer = store.count(store.by_id.get(consuming.queue))
            return partial(self.post, [partial(done, answer)])

        self._put(Task(run))

    def count_queue(self, queue: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """What is in a queue; ``done`` gets TopologyMismatch where it does not exist."""

        def run(store: Store) -> Effect:
            try:
                counted = store.count(None if queue == SCHEDULED else check_exists(store, queue))
            except TopologyMismatch as error:
                return partial(self.post, [partial(done, error)])
            return partial(self.post, [partial(done, counted)])

        self._put(Task(run))

    def list_queues(self, done: Callable[[Mapping[str, QueueCount] | Exception], None]) -> None:
        """The queues of the file, and what is in them."""
        self._put(Task(lambda store: partial(self.post, [partial(done, store.counts())])))

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call after so many seconds, unless the link is closed by then."""
        self._engine.later(seconds, lambda: None if self._phase is Phase.CLOSED else function())
