"""What sync and async links share: the methods of the contract that do not wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from eventbus._errors import (
    BusClosed,
    ConfigurationError,
    ConnectionFailed,
    NotSent,
    PublishError,
    PublishUnknown,
    Rejected,
    TopologyMismatch,
    Unroutable,
)
from eventbus._rules.publishing import oversize
from eventbus.transport import (
    ConsumerListener,
    ConsumerSpec,
    Incoming,
    Message,
    Phase,
    QueueCount,
    Settlement,
    Topology,
)

from ._core import DIRECT_REPLY_TO, Core
from ._queue import Queued
from ._state import Consuming, Done, LinkState


class BaseLink(LinkState):
    """A link without its way of waiting. Its state is guarded by the broker's lock.

    All that waits is in the broker, so nothing here takes time: opening is ready at once, a publish has its
    outcome when the method returns, and settlements are carried out when given.
    """

    def open(self) -> None:
        """Connect; a memory broker is there at once."""
        if self._phase is not Phase.IDLE:
            return
        self._broker.attach(self)
        with self._broker.step() as core:
            self._begin(core)

    def declare(self, topology: Topology) -> None:
        """Add exchanges and bindings that publishing needs."""
        with self._broker.step() as core:
            self._topology = self._topology.merged(topology)
            if self._phase is Phase.READY:
                self._declare_all(core, topology)
                self._announce(core)

    def publish(self, message: Message, *, deadline: float, done: Done) -> None:
        """Send one message; ``done`` has its outcome before this returns, but for the fault ``never_confirm``."""
        if self._phase is not Phase.READY:
            closed = self._phase in (Phase.CLOSED, Phase.CLOSING)
            done(BusClosed("the link is closed") if closed else NotSent("the link is not connected"))
            return
        refused = oversize(message, self._max_body)
        if refused is not None:
            done(refused)
            return
        if message.reply_to == DIRECT_REPLY_TO:
            address = self._reply_address()
            if address is None:
                done(Rejected("this link does not consume direct replies"))
                return
            message = msgspec.structs.replace(message, reply_to=address)
        if self._faults.active:
            self._publish_with_faults(message, deadline, done)
        else:
            done(self._broker.publish(message))

    def consume(self, spec: ConsumerSpec, listener: ConsumerListener) -> None:
        """Keep this consumer running from now on."""
        with self._broker.step() as core:
            if self._phase in (Phase.CLOSED, Phase.CLOSING):
                return
            if spec.name in self._consuming:
                raise ConfigurationError(f"there is a consumer {spec.name!r} already")
            consuming = self._consuming[spec.name] = Consuming(spec, listener)
            if self._phase is Phase.READY:
                self._start(core, consuming)
                self._announce(core)

    def release(self, name: str) -> None:
        """End one consumer; what it holds goes back to its queue at once."""
        with self._broker.step() as core:
            consuming = self._consuming.pop(name, None)
            if consuming is not None:
                self._end(core, consuming)
                self._post(core, consuming.listener.stopped, None)
                self._announce(core)

    def count_consumers(self, queue: str, done: Callable[[int | None], None]) -> None:
        """How many consumers a queue has; None where there is no queue."""
        with self._broker.step() as core:
            known = core.queues.get(queue)
            self._post(core, done, None if known is None else len(known.consumers))

    def count(self, consumer: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """What is in the queue of one of the link's consumers; settlements are carried out when given."""
        with self._broker.step() as core:
            consuming = self._consuming.get(consumer)
            queue = core.queues.get(consuming.status.queue) if consuming is not None else None
            answer: QueueCount | Exception = ConnectionFailed(f"consumer {consumer!r} does not run")
            if queue is not None:
                answer = _count(queue)
            self._post(core, done, answer)

    def count_queue(self, queue: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """What is in a queue, by its name."""
        with self._broker.step() as core:
            known = core.queues.get(queue)
            missing = TopologyMismatch(f"queue {queue!r} does not exist")
            self._post(core, done, missing if known is None else _count(known))

    def list_queues(self, done: Callable[[Mapping[str, QueueCount] | Exception], None]) -> None:
        """The queues that outlive their consumers."""
        with self._broker.step() as core:
            lasting = {
                name: _count(queue)
                for name, queue in core.queues.items()
                if not queue.properties.exclusive and not queue.properties.auto_delete
            }
            self._post(core, done, lasting)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call after so many seconds of the broker's clock, unless the link is closed by then."""
        with self._broker.step() as core:
            core.later(core.clock.now() + seconds, partial(self._due, core, function))

    def _due(self, core: Core, function: Callable[[], None]) -> None:
        if self._phase is not Phase.CLOSED:
            self._post(core, lambda _: function(), None)

    def settle(self, incoming: Incoming, settlement: Settlement) -> None:
        """Tell the broker what became of a delivery; a second time, or too late, it is only counted."""
        if not self._broker.settle(incoming, settlement):
            with self._broker.lock:
                self._stale += 1

    def _reply_address(self) -> str | None:
        with self._broker.lock:
            running = (c for c in self._consuming.values() if c.spec.direct_reply and c.status.phase is Phase.READY)
            return next((c.status.queue for c in running), None)

    def _publish_with_faults(self, message: Message, deadline: float, done: Done) -> None:
        fault = self._faults.next_for(message.topic)
        if fault is None:
            done(self._broker.publish(message))
        elif fault.kind == "duplicate":
            done(self._broker.publish(message, twice=True))
        elif fault.kind == "never_confirm":
            self._leave_unconfirmed(deadline, done)
            if fault.taken:
                self._broker.publish(message)
        else:
            outcomes: dict[str, type[PublishError]] = {"nack": Rejected, "unroutable": Unroutable, "refuse": NotSent}
            done(outcomes[fault.kind](f"a scripted fault: {fault!r}"))

    def _leave_unconfirmed(self, deadline: float, done: Done) -> None:
        publish = object()

        def give_up(core: Core) -> None:
            if self._unconfirmed.pop(publish, None) is not None:
                self._post(core, done, PublishUnknown("no confirm came until the deadline (a scripted fault)"))

        with self._broker.step() as core:
            self._unconfirmed[publish] = done
            # The deadline is on the real clock; the broker's may be a test's.
            core.later(core.clock.now() + deadline - time.monotonic(), partial(give_up, core))


def _count(queue: Queued) -> QueueCount:
    return QueueCount(ready=len(queue.ready), consumers=len(queue.consumers))
