"""Keeps one thing up (a connection, a consumer): runs the core's supervisor state machine on a reactor."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import msgspec

from eventbus._supervisor import (
    Abort,
    Announce,
    Close,
    Closed,
    Event,
    Failed,
    FailureKind,
    Lost,
    LostSession,
    Open,
    Opened,
    Phase,
    Policy,
    Start,
    State,
    Stop,
    Tick,
    Wake,
    initial,
    step,
)
from eventbus_rabbitmq._port import Reactor, Timer


class Keeper:
    """One supervised thing. Its owner opens and closes it when told, and tells how that went."""

    def __init__(
        self,
        reactor: Reactor,
        policy: Policy,
        *,
        open: Callable[[int, int], None],
        abort: Callable[[], None],
        close: Callable[[], None],
        lost: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._policy = policy
        self._open, self._abort, self._close = open, abort, close
        self._lost, self._changed = lost, changed
        self._timer: Timer | None = None
        self._events: deque[Event] = deque()
        self._stepping = False
        self.state: State = initial()

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        return self.state.phase

    @property
    def error(self) -> Exception | None:
        """The last error."""
        return self.state.error

    def start(self) -> None:
        """Begin to keep it up. Idempotent."""
        if self.phase in (Phase.IDLE, Phase.FAILED):
            self.tell(Start())

    def hurry(self) -> None:
        """Try now what waits for its time: something that it stood on is back."""
        if self.phase is Phase.WAITING:
            self.state = msgspec.structs.replace(self.state, due=self._reactor.now())
            self._tick()

    def stop(self) -> None:
        """Close it, for good."""
        self.tell(Stop())

    def closed(self) -> None:
        """It has closed."""
        self.tell(Closed())

    def opened(self, token: int) -> None:
        """An attempt succeeded."""
        self.tell(Opened(token))

    def failed(self, token: int, error: Exception, kind: FailureKind) -> None:
        """An attempt failed."""
        self.tell(Failed(token, error, kind, random.random()))

    def lost(self, token: int, error: Exception, kind: FailureKind) -> None:
        """It was up, and is no more."""
        self.tell(Lost(token, error, kind, random.random()))

    def tell(self, event: Event) -> None:
        """Step the machine, and do what it says. What is told meanwhile comes after that."""
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._events:
                self._step(self._events.popleft())
        finally:
            self._stepping = False

    def _step(self, event: Event) -> None:
        self.state, actions = step(self.state, event, self._reactor.now(), self._policy)
        if self.state.due is None and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for action in actions:
            match action:
                case Open(token, address):
                    self._open(token, address)
                case Abort():
                    self._abort()
                case Close():
                    self._close()
                case LostSession():
                    self._lost()
                case Announce():
                    self._changed()
                case Wake(at):
                    self._wake(at)

    def _wake(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.call_later(max(0.0, at - self._reactor.now()), self._tick)

    def _tick(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.tell(Tick(random.random()))
