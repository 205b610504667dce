"""The one reconnect brain: a pure state machine that keeps a connection, or a consumer, up.

::

           Start              Opened
    IDLE ─────────► CONNECTING ───────► READY      Stop: CONNECTING ─(Abort)─► CLOSING
                     ▲  │    │          │  │             READY ─(Close)─► CLOSING ─Closed─► CLOSED
           Tick(due) │  │    │     Lost │  │             IDLE, WAITING, FAILED ─► CLOSED
                     │  ▼    │          │  │
                    WAITING ◄┼──────────┘  │       Failed, or Tick(due): CONNECTING ─► WAITING
                             ▼             │       fatal, or refused too often: ─► FAILED
                            FAILED ◄───────┘       Retry, Start: FAILED ─► CONNECTING

:func:`step` has no clock, no I/O and no randomness: time and jitter come in, actions go out. The caller
carries these out in order, and owes in return:

* A ``Wake`` replaces the one before it; a ``Tick`` that comes anyway does no harm.
* ``Failed`` and ``Lost`` say that this attempt or connection is gone already, so no ``Abort`` follows.
* After ``Abort`` the answer of that attempt may still come; it is recognised as stale.
* After CLOSED no event is answered: undoing a late ``Opened`` is then up to the caller.
"""

from __future__ import annotations

import enum

import msgspec
from msgspec.structs import replace

from eventbus._errors import ConnectionFailed


class Phase(enum.StrEnum):
    """Where a supervised connection stands."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    WAITING = "waiting"
    FAILED = "failed"
    CLOSING = "closing"
    CLOSED = "closed"


class FailureKind(enum.StrEnum):
    """What a failure says about trying again: worth it, worth a few tries, or pointless."""

    TRANSIENT = "transient"
    REFUSED = "refused"
    FATAL = "fatal"


class Backoff(msgspec.Struct, frozen=True):
    """How long to wait before the next attempt: exponential, with full jitter."""

    first: float = 0.1
    maximum: float = 30.0
    factor: float = 2.0
    floor: float = 0.05
    early_maximum: float = 2.0
    early_seconds: float = 60.0

    def delay(self, failures: int, jitter: float, outage: float) -> float:
        """Seconds to wait after ``failures`` earlier failures, ``outage`` seconds into the outage."""
        limit = self.maximum
        if outage < self.early_seconds:
            # Most outages are restarts, and a restarted broker is to be found again within seconds.
            limit = min(limit, self.early_maximum)
        try:
            grown = self.first * float(self.factor) ** failures
        except OverflowError:  # an outage of hours: 2.0 ** 1024 is more than a float holds
            grown = limit
        return max(self.floor, jitter * min(limit, grown))


class Policy(msgspec.Struct, frozen=True):
    """How patient to be: the same machine serves connections and consumers with other values.

    ``refusals`` consecutive refusals are terminal once we have been ready; before that the first is.
    ``terminal_retry`` is the pause before FAILED tries again by itself; None leaves that to the operator.
    A session that ends within ``steady`` seconds counts as a failure: a broker that takes connections and ends them at
    once must not be asked twenty times a second.
    """

    backoff: Backoff = Backoff()
    attempt_timeout: float = 10.0
    refusals: int = 3
    terminal_retry: float | None = None
    steady: float = 5.0


class State(msgspec.Struct, frozen=True):
    """All that is remembered between two steps.

    ``attempts`` and ``refusals`` count consecutive failures, ``brief`` consecutive sessions that did not last,
    ``generation`` counts successful opens.
    ``address`` only ever grows: the caller takes it modulo the length of its address list.
    ``token`` is the identity of the newest attempt; ``due`` is when a timer must wake us.
    """

    phase: Phase = Phase.IDLE
    attempts: int = 0
    generation: int = 0
    ever_ready: bool = False
    since: float = 0.0
    outage_since: float | None = None
    due: float | None = None
    error: Exception | None = None
    refusals: int = 0
    brief: int = 0
    address: int = 0
    token: int = 0


class Start(msgspec.Struct, frozen=True):
    """Begin; after FAILED the same as :class:`Retry`."""


class Opened(msgspec.Struct, frozen=True):
    """The attempt ``token`` succeeded."""

    token: int


class _End(msgspec.Struct, frozen=True):
    """How and why something ended; the jitter, in [0, 1), is for the wait that may follow."""

    token: int
    error: Exception
    kind: FailureKind = FailureKind.TRANSIENT
    jitter: float = 0.5


class Failed(_End, frozen=True):
    """The attempt ``token`` failed."""


class Lost(_End, frozen=True):
    """The connection that the attempt ``token`` had opened is gone."""


class Tick(msgspec.Struct, frozen=True):
    """The timer asked for by :class:`Wake` fired; the jitter is for an attempt that timed out."""

    jitter: float = 0.5


class Retry(msgspec.Struct, frozen=True):
    """The operator asks to leave FAILED, for example because the credentials changed."""


class Stop(msgspec.Struct, frozen=True):
    """Close in good order and stay closed."""


class Closed(msgspec.Struct, frozen=True):
    """What :class:`Close` or :class:`Abort` asked for on the way to CLOSED is done."""


Event = Start | Opened | Failed | Lost | Tick | Retry | Stop | Closed


class Open(msgspec.Struct, frozen=True):
    """Begin the attempt ``token`` at this address; answer with Opened or Failed."""

    token: int
    address: int


class Abort(msgspec.Struct, frozen=True):
    """Give up this attempt or connection now, without manners."""

    token: int


class Close(msgspec.Struct, frozen=True):
    """Close this connection in good order; answer with Closed."""

    token: int


class Wake(msgspec.Struct, frozen=True):
    """Call :func:`step` with a Tick at this time, instead of at any time asked for earlier."""

    at: float


class Announce(msgspec.Struct, frozen=True):
    """The phase changed: tell health and the log."""

    phase: Phase
    error: Exception | None


class LostSession(msgspec.Struct, frozen=True):
    """Everything of this generation (delivery tags, unconfirmed publishes, consumers) is stale."""

    generation: int


Action = Open | Abort | Close | Wake | Announce | LostSession
Outcome = tuple[State, tuple[Action, ...]]


def initial() -> State:
    """The state before Start."""
    return State()


def step(state: State, event: Event, now: float, policy: Policy) -> Outcome:
    """The next state after ``event`` at ``now`` (monotonic seconds), and what to do, in order."""
    if state.phase is Phase.CLOSED:
        return state, ()
    match event:
        case Opened(token):
            return _opened(state, token, now)
        case Failed() | Lost():
            return _down(state, event, now, policy)
        case Tick(jitter):
            return _tick(state, jitter, now, policy)
        case Start() if state.phase is Phase.IDLE:
            return _open(state, now, policy)
        case Start() | Retry() if state.phase is Phase.FAILED:
            # Somebody changed something: what was counted before says nothing about what comes now.
            return _open(replace(state, attempts=0, refusals=0, brief=0), now, policy)
        case Stop() if state.phase is not Phase.CLOSING:
            return _stop(state, now)
        case Closed() if state.phase is Phase.CLOSING:
            return _enter(state, Phase.CLOSED, now)
        case _:
            return state, ()


def _enter(state: State, phase: Phase, now: float, *actions: Action, due: float | None = None) -> Outcome:
    """Change the phase: its time, its one timer, its announcement, then ``actions``."""
    after = replace(state, phase=phase, since=now, due=due)
    wake = () if due is None else (Wake(due),)
    return after, (Announce(phase, state.error), *actions, *wake)


def _open(state: State, now: float, policy: Policy) -> Outcome:
    """Begin an attempt under a token never used before."""
    began = now if state.outage_since is None else state.outage_since
    state = replace(state, token=state.token + 1, outage_since=began)
    opening, due = Open(state.token, state.address), now + policy.attempt_timeout
    return _enter(state, Phase.CONNECTING, now, opening, due=due)


def _opened(state: State, token: int, now: float) -> Outcome:
    """Take the connection of the running attempt; turn away any other, lest it leak."""
    if token == state.token and state.phase is Phase.READY:
        return state, ()  # said twice: it is the connection we use
    if token != state.token or state.phase is not Phase.CONNECTING:
        return state, (Abort(token),)
    # A fresh State: of all that was counted and noted on the way here, nothing matters any more, but that others did
    # not last either.
    ready = State(
        generation=state.generation + 1, ever_ready=True, brief=state.brief, address=state.address, token=token
    )
    return _enter(ready, Phase.READY, now)


def _down(state: State, end: Failed | Lost, now: float, policy: Policy) -> Outcome:
    """Handle the end of an attempt or of a session: wait for another try, or give up."""
    if end.token != state.token or state.phase not in (Phase.CONNECTING, Phase.READY):
        return state, ()
    # Drivers mix the two up around opening, so the phase decides. The address of a session worked.
    failed = 0 if state.phase is Phase.READY else 1
    attempts, address = state.attempts + failed, state.address + failed
    refusals = state.refusals + 1 if end.kind is FailureKind.REFUSED else 0
    brief = state.brief
    if not failed:
        brief = brief + 1 if now - state.since < policy.steady else 0
    began = now if state.outage_since is None else state.outage_since
    fallen = replace(
        state, error=end.error, attempts=attempts, address=address, refusals=refusals, brief=brief, outage_since=began
    )
    # Stale handles must be known as such before anybody hears of the outage and acts on it.
    lost: tuple[Action, ...] = () if failed else (LostSession(state.generation),)
    # Right credentials may be refused while a broker boots, but only once they have proven right.
    patience = policy.refusals if state.ever_ready else 1
    if end.kind is FailureKind.FATAL or (end.kind is FailureKind.REFUSED and refusals >= patience):
        again = None if policy.terminal_retry is None else now + policy.terminal_retry
        after, actions = _enter(fallen, Phase.FAILED, now, due=again)
    else:
        delay = policy.backoff.delay(max(state.attempts, brief - 1), end.jitter, now - began)
        after, actions = _enter(fallen, Phase.WAITING, now, due=now + delay)
    return after, lost + actions


def _tick(state: State, jitter: float, now: float, policy: Policy) -> Outcome:
    """Do what the timer was set for, or set it again if it fired early."""
    if state.due is None:
        return state, ()
    if now < state.due:
        return state, (Wake(state.due),)
    if state.phase is not Phase.CONNECTING:
        return _open(state, now, policy)
    error = ConnectionFailed(f"no answer within {now - state.since:.1f} s")
    after, actions = _down(state, Failed(state.token, error, jitter=jitter), now, policy)
    return after, (Abort(state.token), *actions)


def _stop(state: State, now: float) -> Outcome:
    """Close what is open; with nothing open, be closed at once."""
    if state.phase is Phase.READY:
        return _enter(state, Phase.CLOSING, now, Close(state.token))
    if state.phase is Phase.CONNECTING:
        return _enter(state, Phase.CLOSING, now, Abort(state.token))
    return _enter(state, Phase.CLOSED, now)
