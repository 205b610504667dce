"""The state of a link: what shall exist in the file, what does, and how both are kept equal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from eventbus._errors import ConfigurationError, ConnectionFailed, EventBusError
from eventbus._rules.readiness import readiness
from eventbus.transport import ConsumerStatus, LinkSettings, LinkStatus, Phase, StatusListener, Topology

from ._consuming import Consuming, declare
from ._engine import Engine
from ._options import Options
from ._store import Store
from ._work import Effect, Publish, Task

RETRY_SECONDS = 1.0


class LinkState:
    """What a link knows of itself, guarded by a lock; and what its engine calls, in the engine's thread."""

    def __init__(self, path: Path, options: Options, settings: LinkSettings, on_status: StatusListener) -> None:
        self._max_body = settings.max_body
        self._on_status = on_status
        self._lock = threading.RLock()
        self._phase = Phase.IDLE
        self._error: Exception | None = None
        self._blocked: str | None = None
        self._topology = Topology()
        self._refused: dict[str, Exception] = {}
        self._consuming: dict[str, Consuming] = {}
        self._session = 0
        self._sessions = 0
        self._stale = 0
        self._engine = Engine(path, options, settings.service, settings.max_body, self)

    # -- what the two kinds differ in ---------------------------------------------------------------------

    def post(self, effects: list[Effect]) -> None:
        """Do these where listeners are called, behind those before."""
        raise NotImplementedError

    def _put(self, work: Publish | Task) -> None:
        """Have this done by the engine."""
        raise NotImplementedError

    def abandoned(self) -> bool:
        """Whether nobody can be told anything any more, though nobody has closed the link."""
        return False

    def ended(self) -> None:
        """The engine's thread ends now."""

    # -- state --------------------------------------------------------------------------------------------

    def status(self) -> LinkStatus:
        """A snapshot, from any thread."""
        with self._lock:
            return LinkStatus(
                phase=self._phase,
                error=self._error or next(iter(self._refused.values()), None),
                blocked=self._blocked,
                consumers={name: consuming.status for name, consuming in self._consuming.items()},
                unconfirmed=self._engine.unconfirmed,
                reconnects=max(0, self._sessions - 1),
                stale_settlements=self._stale,
            )

    def _announce(self) -> None:
        status = self.status()
        self.post([lambda: self._tell(status)])

    def _tell(self, status: LinkStatus) -> None:
        self._on_status(status)

    def _ready(self) -> Exception | bool:
        return readiness(self.status(), self._refused.values())

    # -- for the engine -----------------------------------------------------------------------------------

    def consumers(self) -> list[Consuming]:
        """Those that shall run."""
        with self._lock:
            return list(self._consuming.values())

    def begin(self, store: Store, session: int) -> Effect:
        """Make everything exist."""
        self._session = session
        with self._lock:
            topology, begun = self._topology, self.consumers()
        refused = declare(store, topology, session)
        effects = [self._start(consuming, store) for consuming in begun]

        def effect() -> None:
            with self._lock:
                if self._phase in (Phase.CONNECTING, Phase.WAITING):
                    self._phase, self._error = Phase.READY, None
                self._sessions += 1
                self._refused = refused
                late = [consuming for consuming in self._consuming.values() if consuming not in begun]
                declared = self._topology is topology
            for one in effects:
                one()
            for consuming in late:  # asked for while this was under way
                self._engine.put(self._starting(consuming))
            if not declared:
                self._engine.put(self._declaring(self._topology))
            self._announce()

        return effect

    def _declaring(self, topology: Topology) -> Task:
        def run(store: Store) -> Effect:
            refused = declare(store, topology, self._session)

            def effect() -> None:
                with self._lock:
                    self._refused.update(refused)
                self._announce()

            return effect

        return Task(run)

    def lost(self, error: EventBusError, *, terminal: bool) -> None:
        """The session is over, or could not begin."""
        with self._lock:
            if self._phase in (Phase.CLOSED, Phase.CLOSING):
                return
            self._phase, self._error = (Phase.FAILED if terminal else Phase.WAITING), error
        for consuming in self.consumers():
            if consuming.id is not None:
                self.post([partial(consuming.listener.stopped, error)])
            consuming.stopped(ConsumerStatus(phase=self._phase, error=error))
        self._announce()

    def gone(self, consumers: Iterable[Consuming]) -> None:
        """Their queues were deleted: say so, and begin anew."""
        for consuming in consumers:
            error = ConnectionFailed(f"queue {consuming.queue_name!r} was deleted")
            consuming.stopped(ConsumerStatus(phase=Phase.WAITING, error=error))
            self.post([partial(consuming.listener.stopped, error)])
            self._engine.put(self._starting(consuming))
        self._announce()

    def blocked(self, reason: str | None) -> None:
        """Nothing can be written for now, or it can again."""
        with self._lock:
            if self._blocked == reason:
                return
            self._blocked = reason
        self._announce()

    def dropped(self, settlements: int) -> None:
        """They came too late."""
        with self._lock:
            self._stale += settlements

    # -- within transactions ------------------------------------------------------------------------------

    def _starting(self, consuming: Consuming) -> Task:
        return Task(partial(self._start, consuming))

    def _start(self, consuming: Consuming, store: Store) -> Effect:
        if consuming.cancelled or (consuming.id is not None and self._session == consuming.session):
            return _nothing
        try:
            id, queue, name = consuming.begin(store, self._session)
        except EventBusError as error:
            refused = error
            return lambda: self._not_started(consuming, refused)
        session = self._session

        def effect() -> None:
            consuming.started(session, id, queue, name)
            self.post([partial(consuming.listener.started, name)])
            self._announce()

        return effect

    def _not_started(self, consuming: Consuming, error: EventBusError) -> None:
        terminal = isinstance(error, ConfigurationError)
        consuming.stopped(ConsumerStatus(phase=Phase.FAILED if terminal else Phase.WAITING, error=error))
        self.post([partial(consuming.listener.stopped, error)])
        if not terminal:
            self._engine.later(RETRY_SECONDS, partial(self._engine.put, self._starting(consuming)))
        self._announce()

    def _remove(self, store: Store, consuming: Consuming) -> None:
        if consuming.id is not None and (queue := store.by_id.get(consuming.queue)) is not None:
            store.remove_consumer(queue, consuming.id)
            store.touched.add(consuming.queue)  # another one may be the active consumer now

    # -- the end ------------------------------------------------------------------------------------------

    def _cancel_all(self, ended: Callable[[], None]) -> bool:
        """Begin to cancel all consumers but ordered ones and that of replies; False when there is no need to wait."""
        with self._lock:
            cancelled = [c for c in self._consuming.values() if not (c.spec.replies or c.spec.ordered)]
            for consuming in cancelled:
                consuming.cancelled = True
                if self._phase is not Phase.READY:
                    consuming.status = ConsumerStatus(phase=Phase.CLOSED)
            if self._phase is not Phase.READY:
                return False

        def run(store: Store) -> Effect:
            for consuming in cancelled:
                self._remove(store, consuming)

            def effect() -> None:
                for consuming in cancelled:
                    consuming.status = ConsumerStatus(phase=Phase.CLOSED, queue=consuming.queue_name)
                self._announce()
                self.post([ended])

            return effect

        self._put(Task(run))
        return True

    def _barrier(self, ended: Callable[[], None]) -> bool:
        """Have this called when all that was given so far is carried out; False when there is nothing to wait for."""
        if self._phase is not Phase.READY:
            return False
        self._put(Task(lambda store: partial(self.post, [ended])))
        return True

    def _begin_close(self, timeout: float) -> bool:
        """Begin to end; False when somebody else has, or nothing was open."""
        with self._lock:
            if self._phase in (Phase.CLOSED, Phase.CLOSING):
                return False
            idle = self._phase is Phase.IDLE
            self._phase = Phase.CLOSING
        if idle:
            self._closed()
            return False

        def run(store: Store) -> None:
            store.end(self._session)

        self._engine.close(timeout, Task(run, last=True))
        return True

    def _closed(self) -> None:
        with self._lock:
            self._phase = Phase.CLOSED
            for consuming in self._consuming.values():
                consuming.stopped(ConsumerStatus(phase=Phase.CLOSED))
        self._tell(self.status())


def _nothing() -> None:
    """No effect."""
