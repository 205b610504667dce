"""The state of a link: what shall exist on the broker, what does, and how both are kept equal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from eventbus._errors import (
    ConfigurationError,
    ConnectionFailed,
    EventBusError,
    PublishError,
    PublishUnknown,
)
from eventbus._rules.readiness import readiness
from eventbus.transport import (
    ConsumerListener,
    ConsumerSpec,
    ConsumerStatus,
    LinkSettings,
    LinkStatus,
    Phase,
    StatusListener,
    Topology,
)

from ._broker import MemoryBroker
from ._core import Core
from ._faults import FaultPlan
from ._queue import Consumer

Done = Callable[[PublishError | None], None]

RETRY_SECONDS = 1.0


class Consuming:
    """A consumer that shall run, and how it stands."""

    def __init__(self, spec: ConsumerSpec, listener: ConsumerListener) -> None:
        self.spec = spec
        self.listener = listener
        self.consumer: Consumer | None = None
        self.status = ConsumerStatus(phase=Phase.IDLE)


class LinkState:
    """What a link knows of itself, guarded by the broker's lock."""

    def __init__(
        self, broker: MemoryBroker, settings: LinkSettings, on_status: StatusListener, faults: FaultPlan
    ) -> None:
        self._broker = broker
        self._max_body = settings.max_body
        self._on_status = on_status
        self._faults = faults
        self._phase = Phase.IDLE
        self._error: Exception | None = None
        self._topology = Topology()
        self._refused: dict[str, Exception] = {}
        self._consuming: dict[str, Consuming] = {}
        self._unconfirmed: dict[object, Done] = {}
        self._reconnects = 0
        self._stale = 0

    def status(self) -> LinkStatus:
        """A snapshot, from any thread."""
        with self._broker.lock:
            return self._snapshot()

    # -- what the two kinds differ in ---------------------------------------------------------------------

    def _post(self, core: Core, call: Callable[[Any], None], argument: Any) -> None:
        """Make a callback after the broker's step, behind those before."""
        raise NotImplementedError

    def _consumer(self, consuming: Consuming) -> Consumer:
        """The broker's consumer for it."""
        raise NotImplementedError

    # -- state --------------------------------------------------------------------------------------------

    def _snapshot(self) -> LinkStatus:
        return LinkStatus(
            phase=self._phase,
            error=self._error or next(iter(self._refused.values()), None),
            consumers={name: consuming.status for name, consuming in self._consuming.items()},
            unconfirmed=len(self._unconfirmed),
            reconnects=self._reconnects,
            stale_settlements=self._stale,
        )

    def _announce(self, core: Core) -> None:
        self._post(core, self._tell, self._snapshot())

    def _tell(self, status: LinkStatus) -> None:
        self._on_status(status)

    def _ready(self) -> Exception | bool:
        return readiness(self.status(), self._refused.values())

    # -- desired state ------------------------------------------------------------------------------------

    def _begin(self, core: Core) -> None:
        self._phase, self._error = Phase.READY, None
        self._declare_all(core, self._topology)
        for consuming in self._consuming.values():
            self._start(core, consuming)
        self._announce(core)

    def _declare_all(self, core: Core, topology: Topology) -> None:
        for key, error in self._declare_each(core, topology, "").items():
            self._refused[key] = error

    def _declare_each(self, core: Core, topology: Topology, own: str) -> dict[str, Exception]:
        """Declare all that can be declared; what was refused, and why."""
        refused: dict[str, Exception] = {}
        calls: list[tuple[object, Callable[[], object]]] = [
            *((e, partial(core.declare_exchange, e)) for e in topology.exchanges),
            *((q, partial(core.declare, q, self)) for q in topology.queues if q.name),
            *((b, partial(core.bind, b, own)) for b in topology.bindings),
        ]
        for entity, call in calls:
            try:
                call()
            except EventBusError as error:
                refused[repr(entity)] = error
        return refused

    def _start(self, core: Core, consuming: Consuming) -> None:
        if self._consuming.get(consuming.spec.name) is not consuming or self._phase is not Phase.READY:
            return
        consumer = consuming.consumer = self._consumer(consuming)
        try:
            queue = self._prepare(core, consuming, consumer)
        except EventBusError as error:
            consuming.consumer = None
            terminal = isinstance(error, ConfigurationError)
            consuming.status = ConsumerStatus(phase=Phase.FAILED if terminal else Phase.WAITING, error=error)
            self._post(core, consuming.listener.stopped, error)
            if not terminal:
                core.later(core.clock.now() + RETRY_SECONDS, partial(self._start_again, core, consuming))
            return
        consuming.status = ConsumerStatus(phase=Phase.READY, queue=queue)
        self._post(core, consuming.listener.started, queue)  # before what comes at once
        if not consuming.spec.direct_reply:
            core.subscribe(consumer, queue, self)

    def _prepare(self, core: Core, consuming: Consuming, consumer: Consumer) -> str:
        spec = consuming.spec
        if spec.direct_reply:
            return core.subscribe_replies(consumer)
        if spec.inspect:
            return core.existing(spec.queue.name)
        # The exchanges of its topology may be needed by others even if its queue is refused.
        refused = self._declare_each(core, Topology(exchanges=spec.topology.exchanges), "")
        name = core.declare(spec.queue, self)
        rest = Topology(queues=spec.topology.queues, bindings=spec.topology.bindings)
        refused.update(self._declare_each(core, rest, name))
        for error in refused.values():
            raise error
        return name

    def _start_again(self, core: Core, consuming: Consuming) -> None:
        self._start(core, consuming)
        self._announce(core)

    def _queue_gone(self, consuming: Consuming, name: str) -> None:
        """The queue was deleted under its consumer: say so, and begin anew."""
        with self._broker.step() as core:
            if consuming.status.queue == name and consuming.status.phase is Phase.READY:
                self._end(core, consuming)
                self._stopped(core, consuming, ConnectionFailed(f"queue {name!r} was deleted"))
                self._start(core, consuming)
                self._announce(core)

    # -- losing the connection ----------------------------------------------------------------------------

    def cut(self, core: Core, error: Exception) -> None:
        """The connection is lost: everything of it is gone."""
        self._phase, self._error = Phase.WAITING, error
        for consuming in self._consuming.values():
            if self._end(core, consuming):
                self._stopped(core, consuming, error)
        self._delete_own_queues(core)
        self._announce(core)

    def come_back(self, core: Core) -> None:
        """Connected again."""
        self._reconnects += 1
        self._begin(core)

    def _stopped(self, core: Core, consuming: Consuming, error: Exception) -> None:
        consuming.status = ConsumerStatus(phase=Phase.WAITING, error=error)
        self._post(core, consuming.listener.stopped, error)

    def _end(self, core: Core, consuming: Consuming) -> bool:
        """The consumer goes, and what is at it goes back; False when it did not run."""
        consumer, consuming.consumer = consuming.consumer, None
        if consumer is None:
            return False
        core.repliers.pop(consuming.status.queue, None)
        core.drop(consumer)
        return True

    def _delete_own_queues(self, core: Core) -> None:
        for queue in [queue for queue in core.queues.values() if queue.owner is self]:
            core.delete_queue(queue)

    def _cancel_all(self) -> None:
        with self._broker.step() as core:
            for consuming in self._consuming.values():
                if consuming.spec.replies or consuming.spec.ordered:
                    continue
                if consuming.consumer is not None and consuming.status.phase is Phase.READY:
                    core.repliers.pop(consuming.status.queue, None)
                    core.cancel(consuming.consumer)
                consuming.status = msgspec.structs.replace(consuming.status, phase=Phase.CLOSED)
            self._announce(core)

    def _close(self, core: Core) -> None:
        self._phase = Phase.CLOSED
        for consuming in self._consuming.values():
            self._end(core, consuming)
            consuming.status = ConsumerStatus(phase=Phase.CLOSED)
        self._delete_own_queues(core)
        for done in self._unconfirmed.values():
            self._post(core, done, PublishUnknown("the link was closed before a confirm came"))
        self._unconfirmed.clear()
        self._announce(core)
