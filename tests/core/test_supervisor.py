"""The reconnect brain: a table of its rules, then a simulated broker that behaves as badly as it can."""

from __future__ import annotations

import heapq
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from eventbus import _supervisor as sup
from eventbus._supervisor import (
    Abort,
    Action,
    Announce,
    Backoff,
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
    Retry,
    Start,
    State,
    Stop,
    Tick,
    Wake,
    step,
)

POLICY = Policy()
SELF_HEALING = Policy(terminal_retry=20.0)
TRANSIENT, REFUSED, FATAL = FailureKind.TRANSIENT, FailureKind.REFUSED, FailureKind.FATAL
BOOM = RuntimeError("boom")


def run(*events: tuple[float, Event], policy: Policy = POLICY) -> tuple[State, tuple[Action, ...]]:
    """Feed (time, event) pairs to a new machine; the final state and the actions of the last step."""
    state = sup.initial()
    actions: tuple[Action, ...] = ()
    for now, event in events:
        state, actions = step(state, event, now, policy)
    return state, actions


CONNECTING = ((0.0, Start()),)
READY = (*CONNECTING, (1.0, Opened(1)))
WAITING = (*CONNECTING, (1.0, Failed(1, BOOM, jitter=0.9)))
FAILED = (*CONNECTING, (1.0, Failed(1, BOOM, FATAL)))
CLOSING = (*READY, (2.0, Stop()))
CLOSED = (*CLOSING, (3.0, Closed()))
EVERY_PHASE: dict[Phase, tuple[tuple[float, Event], ...]] = {
    Phase.IDLE: (),
    Phase.CONNECTING: CONNECTING,
    Phase.READY: READY,
    Phase.WAITING: WAITING,
    Phase.FAILED: FAILED,
    Phase.CLOSING: CLOSING,
    Phase.CLOSED: CLOSED,
}
by_phase = pytest.mark.parametrize("phase", EVERY_PHASE)


# --- opening -------------------------------------------------------------------------------------------


@by_phase
def test_the_events_of_this_table_lead_to_the_phase_they_are_named_after(phase: Phase) -> None:
    assert run(*EVERY_PHASE[phase])[0].phase is phase


def test_start_opens_the_first_address_and_sets_the_timer_of_the_attempt() -> None:
    state, actions = run((5.0, Start()))
    assert actions == (Announce(Phase.CONNECTING, None), Open(1, 0), Wake(15.0))
    assert (state.due, state.since, state.outage_since) == (15.0, 5.0, 5.0)


def test_an_opened_connection_is_ready_and_forgets_all_failures() -> None:
    failed = (1.0, Failed(1, BOOM))
    state, actions = run(*CONNECTING, failed, (5.0, Tick()), (6.0, Opened(2)))
    assert actions == (Announce(Phase.READY, None),)
    assert state == State(
        phase=Phase.READY, generation=1, ever_ready=True, since=6.0, address=1, token=2
    )  # and so no attempts, refusals, error, due or outage


@by_phase
def test_start_matters_only_in_idle_and_failed(phase: Phase) -> None:
    before, _ = run(*EVERY_PHASE[phase])
    after, actions = step(before, Start(), 9.0, POLICY)
    if phase in (Phase.IDLE, Phase.FAILED):
        assert after.phase is Phase.CONNECTING
    else:
        assert (after, actions) == (before, ())


def test_opened_said_twice_does_not_abort_the_connection_in_use() -> None:
    before, _ = run(*READY)
    assert step(before, Opened(1), 2.0, POLICY) == (before, ())


# --- failing -------------------------------------------------------------------------------------------


def test_a_failed_attempt_waits_and_then_tries_the_next_address_with_a_new_token() -> None:
    state, actions = run(*WAITING)
    assert actions == (Announce(Phase.WAITING, BOOM), Wake(1.0 + 0.9 * 0.1))
    assert (state.attempts, state.address, state.error) == (1, 1, BOOM)
    state, actions = run(*WAITING, (1.5, Tick()))
    assert actions == (Announce(Phase.CONNECTING, BOOM), Open(2, 1), Wake(11.5))


def test_an_attempt_without_answer_is_aborted_and_counts_as_a_transient_failure() -> None:
    state, actions = run(*CONNECTING, (10.0, Tick(jitter=0.8)))
    assert actions == (Abort(1), Announce(Phase.WAITING, state.error), Wake(10.08))
    assert "no answer within 10.0 s" in str(state.error)
    assert (state.attempts, state.address, state.refusals) == (1, 1, 0)


def test_a_lost_session_is_declared_stale_before_the_quick_first_try_at_the_same_address() -> None:
    state, actions = run(*READY, (50.0, Lost(1, BOOM, jitter=0.7)))
    assert actions == (LostSession(1), Announce(Phase.WAITING, BOOM), Wake(50.07))
    assert (state.attempts, state.address, state.outage_since) == (0, 0, 50.0)


def test_sessions_that_do_not_last_are_failures_and_one_that_does_is_the_end_of_them() -> None:
    state, now, pauses = run(*READY)[0], 1.0, []
    for lasted in (0.1, 0.1, 0.1, 0.1, POLICY.steady, 0.1):
        now += lasted
        state, _ = step(state, Lost(state.token, BOOM, jitter=1.0), now, POLICY)
        assert state.due is not None
        pauses.append(round(state.due - now, 6))
        now = state.due
        state, _ = step(state, Tick(), now, POLICY)
        state, _ = step(state, Opened(state.token), now, POLICY)
        assert state.phase is Phase.READY
    assert pauses == [0.1, 0.2, 0.4, 0.8, 0.1, 0.1]


def test_the_phase_and_not_the_name_of_the_event_tells_a_failed_attempt_from_a_lost_session() -> None:
    assert run(*CONNECTING, (1.0, Lost(1, BOOM))) == run(*CONNECTING, (1.0, Failed(1, BOOM)))
    assert run(*READY, (2.0, Failed(1, BOOM))) == run(*READY, (2.0, Lost(1, BOOM)))


@pytest.mark.parametrize("start", [CONNECTING, READY])
def test_a_fatal_failure_is_announced_and_sets_no_timer(start: tuple[tuple[float, Event], ...]) -> None:
    state, actions = run(*start, (2.0, Lost(1, BOOM, FATAL)))
    assert state.phase is Phase.FAILED
    assert actions[-1] == Announce(Phase.FAILED, BOOM)
    assert state.due is None


def refused(times: int, policy: Policy = POLICY) -> State:
    """A connection once ready, then lost, then refused this many times in a row."""
    state, _ = run(*READY, (2.0, Lost(1, BOOM)), policy=policy)
    for now in range(times):
        state, _ = step(state, Tick(), 10.0 + 20 * now, policy)
        state, _ = step(state, Failed(state.token, BOOM, REFUSED), 11.0 + 20 * now, policy)
    return state


def test_the_first_refusal_is_terminal_if_the_login_never_worked() -> None:
    assert run(*CONNECTING, (1.0, Failed(1, BOOM, REFUSED)))[0].phase is Phase.FAILED


def test_the_third_refusal_in_a_row_is_terminal_if_the_login_once_worked() -> None:
    assert [refused(n).phase for n in (1, 2, 3)] == [Phase.WAITING, Phase.WAITING, Phase.FAILED]


def test_another_kind_of_failure_between_two_refusals_starts_the_count_anew() -> None:
    state, _ = step(refused(2), Tick(), 100.0, POLICY)
    state, _ = step(state, Failed(state.token, BOOM), 101.0, POLICY)
    assert state.refusals == 0


def test_a_session_ended_by_a_refusal_counts_as_one() -> None:
    state, _ = run(*READY, (2.0, Lost(1, BOOM, REFUSED)))
    assert (state.phase, state.refusals) == (Phase.WAITING, 1)


# --- failed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [Retry(), Start()])
def test_the_operator_can_leave_failed_with_all_patience_restored(again: Event) -> None:
    state, actions = step(refused(3), again, 99.0, POLICY)
    assert (state.phase, state.attempts, state.refusals) == (Phase.CONNECTING, 0, 0)
    assert Open(state.token, state.address) in actions


@by_phase
def test_retry_matters_only_in_failed(phase: Phase) -> None:
    before, _ = run(*EVERY_PHASE[phase])
    after, actions = step(before, Retry(), 9.0, POLICY)
    assert (after.phase is Phase.CONNECTING) if phase is Phase.FAILED else (after, actions) == (before, ())


def test_failed_stays_failed_for_all_time_without_a_terminal_retry() -> None:
    before, _ = run(*FAILED)
    assert step(before, Tick(), 1e9, POLICY) == (before, ())


def test_with_a_terminal_retry_one_attempt_is_made_each_time_and_one_refusal_ends_it() -> None:
    state = refused(3, SELF_HEALING)
    assert state.due == 51.0 + 20.0
    state, actions = step(state, Tick(), 71.0, SELF_HEALING)
    assert Open(state.token, state.address) in actions
    state, actions = step(state, Failed(state.token, BOOM, REFUSED), 72.0, SELF_HEALING)
    assert (state.phase, actions) == (Phase.FAILED, (Announce(Phase.FAILED, BOOM), Wake(92.0)))


# --- stale and early -----------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.CLOSED])
def test_a_connection_of_an_older_attempt_is_aborted_and_changes_nothing(phase: Phase) -> None:
    before, _ = run(*EVERY_PHASE[phase])
    assert step(before, Opened(-1), 9.0, POLICY) == (before, (Abort(-1),))


@by_phase
@pytest.mark.parametrize("stale", [Failed(-1, BOOM, FATAL), Lost(-1, BOOM, FATAL)])
def test_the_end_of_an_older_attempt_changes_nothing(phase: Phase, stale: Event) -> None:
    before, _ = run(*EVERY_PHASE[phase])
    assert step(before, stale, 9.0, POLICY) == (before, ())


def test_a_connection_that_comes_after_its_attempt_timed_out_is_aborted() -> None:
    before, _ = run(*CONNECTING, (10.0, Tick()))
    assert step(before, Opened(1), 10.01, POLICY) == (before, (Abort(1),))
    assert step(before, Failed(1, BOOM, FATAL), 10.01, POLICY) == (before, ())


def test_a_connection_that_comes_while_its_attempt_is_being_stopped_is_aborted() -> None:
    before, _ = run(*CONNECTING, (1.0, Stop()))
    assert step(before, Opened(1), 1.1, POLICY) == (before, (Abort(1),))


@by_phase
def test_an_early_tick_changes_nothing_but_sets_the_timer_again(phase: Phase) -> None:
    before, _ = run(*EVERY_PHASE[phase])
    wake = () if before.due is None else (Wake(before.due),)
    assert step(before, Tick(), 1.01, POLICY) == (before, wake)
    assert bool(wake) == (phase in (Phase.CONNECTING, Phase.WAITING))


# --- stopping ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "actions"),
    [
        (Phase.IDLE, (Announce(Phase.CLOSED, None),)),
        (Phase.WAITING, (Announce(Phase.CLOSED, BOOM),)),
        (Phase.FAILED, (Announce(Phase.CLOSED, BOOM),)),
        (Phase.CONNECTING, (Announce(Phase.CLOSING, None), Abort(1))),
        (Phase.READY, (Announce(Phase.CLOSING, None), Close(1))),
        (Phase.CLOSING, ()),
        (Phase.CLOSED, ()),
    ],
)
def test_stop_closes_what_is_open_and_is_idempotent(phase: Phase, actions: tuple[Action, ...]) -> None:
    state, done = run(*EVERY_PHASE[phase], (9.0, Stop()))
    assert done == actions
    assert state.phase in (Phase.CLOSING, Phase.CLOSED)
    assert state.due is None
    assert step(state, Stop(), 10.0, POLICY) == (state, ())


@by_phase
def test_closed_matters_only_while_closing(phase: Phase) -> None:
    before, _ = run(*EVERY_PHASE[phase])
    after, actions = step(before, Closed(), 9.0, POLICY)
    if phase is Phase.CLOSING:
        assert (after.phase, actions) == (Phase.CLOSED, (Announce(Phase.CLOSED, None),))
    else:
        assert (after, actions) == (before, ())


# --- backoff -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "jitter", "outage", "delay"),
    [
        (0, 0.9, 0.0, 0.09),
        (1, 0.9, 0.0, 0.18),
        (3, 0.5, 0.0, 0.4),
        (9, 0.5, 59.9, 1.0),  # early: never above 2 s
        (9, 0.5, 60.0, 15.0),  # later: never above 30 s
        (0, 0.0, 0.0, 0.05),  # the floor
        (100_000, 0.5, 1e6, 15.0),  # no overflow
    ],
)
def test_the_delay_grows_up_to_a_limit_that_is_low_in_the_first_minute(
    failures: int, jitter: float, outage: float, delay: float
) -> None:
    assert Backoff().delay(failures, jitter, outage) == pytest.approx(delay)


def test_an_outage_lasts_until_ready_and_waits_grow_long_only_after_its_first_minute() -> None:
    state, _ = run(*READY, (100.0, Lost(1, BOOM)))
    waits: list[float] = []
    for now in range(105, 181, 15):
        state, _ = step(state, Tick(), float(now), POLICY)
        state, actions = step(state, Failed(state.token, BOOM, jitter=0.99), float(now), POLICY)
        assert state.outage_since == 100.0
        waits += [a.at - now for a in actions if isinstance(a, Wake)]
        state = replace(state, attempts=20, due=now + 1.0)
    assert waits == pytest.approx([0.099, 1.98, 1.98, 1.98, 29.7, 29.7])


# --- any events in any order ---------------------------------------------------------------------------

tokens = st.integers(0, 6)
kinds = st.sampled_from(FailureKind)
jitters = st.floats(0, 1, exclude_max=True)
ends = st.builds(Failed, tokens, st.just(BOOM), kinds, jitters)
lost = st.builds(Lost, tokens, st.just(BOOM), kinds, jitters)
plain: st.SearchStrategy[Event] = st.sampled_from([Start(), Retry(), Closed(), Stop()])
any_event: st.SearchStrategy[Event] = st.one_of(st.builds(Opened, tokens), ends, lost, st.builds(Tick, jitters), plain)
unhurried = settings(deadline=None)  # simulated hours take a while on a busy machine
policies = st.sampled_from([POLICY, SELF_HEALING, Policy(refusals=1, attempt_timeout=2.5)])


class Watch:
    """Checks after every step what must hold whatever happens."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.state = sup.initial()
        self.opened: set[int] = set()

    def feed(self, event: Event, now: float) -> tuple[Action, ...]:
        """One step, checked."""
        before = self.state
        self.state, actions = step(before, event, now, self.policy)
        self._check_opens(before, event, actions)
        self._check_phase(before, now, actions)
        again = step(before, event, now, self.policy)
        assert repr(again) == repr((self.state, actions)), "the same step came out differently"
        return actions

    def _check_opens(self, before: State, event: Event, actions: tuple[Action, ...]) -> None:
        for token in [a.token for a in actions if isinstance(a, Open)]:
            assert before.phase in (Phase.IDLE, Phase.WAITING, Phase.FAILED)
            assert token == self.state.token
            assert token not in self.opened, "a token was opened twice"
            self.opened.add(token)
            if before.phase is Phase.FAILED and self.policy.terminal_retry is None:
                assert isinstance(event, Retry | Start), "FAILED opened by itself"

    def _check_phase(self, before: State, now: float, actions: tuple[Action, ...]) -> None:
        after, changed = self.state, self.state.phase is not before.phase
        became_ready = changed and after.phase is Phase.READY
        assert after.generation == before.generation + became_ready
        assert (LostSession(before.generation) in actions) == (
            before.phase is Phase.READY and after.phase in (Phase.WAITING, Phase.FAILED)
        )
        announced = [a for a in actions if isinstance(a, Announce)]
        assert announced == ([Announce(after.phase, after.error)] if changed else [])
        assert after.since == (now if changed else before.since)
        wakes = [a.at for a in actions if isinstance(a, Wake)]
        assert wakes in ([], [after.due]), "one timer, and the state knows it"
        assert not (changed and after.due is not None and not wakes)
        if after.phase in (Phase.CONNECTING, Phase.WAITING):
            assert after.due is not None
        elif after.phase is not Phase.FAILED:
            assert after.due is None
        if before.phase is Phase.CLOSED:
            assert (after, actions) == (before, ())


@unhurried
@given(policies, st.lists(st.tuples(any_event, st.floats(0, 40)), max_size=60))
def test_no_order_of_events_breaks_a_rule(policy: Policy, events: list[tuple[Event, float]]) -> None:
    watch, now = Watch(policy), 0.0
    for event, pause in events:
        now += pause
        watch.feed(event, now)


# --- a simulated broker --------------------------------------------------------------------------------

Answer = tuple[str, float, float]  # what the broker does to an attempt, after how long, with what jitter
LATENCY = 0.2  # of a healthy broker


class Simulator:
    """A clock, one timer, and a broker that answers attempts as told, or well once it is healthy."""

    def __init__(self, policy: Policy, answers: list[Answer]) -> None:
        self.watch = Watch(policy)
        self.now = 0.0
        self.answers = answers
        self.asked = 0
        self.healthy = False
        self.live: set[int] = set()
        self.alarm: float | None = None
        self.coming: list[tuple[float, int, Event]] = []
        self.order = 0

    @property
    def state(self) -> State:
        return self.watch.state

    def feed(self, event: Event) -> None:
        """Deliver one event and carry out what the machine asks for."""
        if self.state.phase is Phase.CLOSED:
            return  # a late connection is then ours to undo
        match event:
            case Opened(token):
                self.live.add(token)
            case Lost(token) | Failed(token):
                self.live.discard(token)
            case _:
                pass
        for action in self.watch.feed(event, self.now):
            self._act(action)
        assert self.live <= {self.state.token}, "a connection of an older attempt lives on"
        assert bool(self.live) <= (self.state.phase in (Phase.READY, Phase.CLOSING)), "a connection leaked"
        assert (self.state.phase is not Phase.READY) or self.live
        assert (self.state.due is None) or self.alarm == self.state.due, "nothing would ever wake us"

    def _act(self, action: Action) -> None:
        match action:
            case Open(token):
                assert not self.live, "two connections at a time"
                self._answer(token)
            case Wake(at):
                self.alarm = at
            case Abort(token):
                self.live.discard(token)  # an answer under way still comes: aborts can be too late
                if self.state.phase is Phase.CLOSING:
                    self._later(LATENCY, Closed())
            case Close():
                self._later(LATENCY, Closed())
            case _:
                pass
        if isinstance(action, Announce) and action.phase is Phase.CLOSED:
            self.live.clear()

    def _answer(self, token: int) -> None:
        how, after, jitter = self.answers[self.asked % len(self.answers)]
        self.asked += 1
        if self.healthy:
            self._later(LATENCY, Opened(token))
        elif how == "late":
            self._later(self.watch.policy.attempt_timeout + after, Opened(token))
        elif how == "open":
            self._later(after, Opened(token))
        elif how != "never":
            self._later(after, Failed(token, BOOM, FailureKind(how), jitter))

    def _later(self, delay: float, event: Event) -> None:
        self.order += 1
        heapq.heappush(self.coming, (self.now + delay, self.order, event))

    def advance(self, seconds: float) -> None:
        """Let time pass, with all that happens in it."""
        until = self.now + seconds
        while True:
            alarm = until + 1 if self.alarm is None else self.alarm
            event_at = self.coming[0][0] if self.coming else until + 1
            if min(alarm, event_at) > until:
                break
            self.now = max(self.now, min(alarm, event_at))
            if event_at <= alarm:
                self.feed(heapq.heappop(self.coming)[2])
            else:
                self.alarm = None
                self.feed(Tick(self.answers[self.asked % len(self.answers)][2]))
        self.now = until

    def do(self, what: Any) -> None:
        """One thing out of a generated history."""
        match what:
            case float():
                self.advance(what)
            case FailureKind() if self.state.phase is Phase.READY:
                self.feed(Lost(self.state.token, BOOM, what))
            case FailureKind():
                pass
            case _:
                self.feed(what)


durations = st.sampled_from([0.01, 0.1, 1.0, 4.0, 9.0, 15.0])
bad = st.sampled_from(["open", "transient", "transient", "refused", "fatal", "never", "late"])
mild = st.sampled_from(["open", "transient", "never", "late"])
prompt = st.sampled_from(["open", "transient"])
asks: st.SearchStrategy[Event] = st.sampled_from([Start(), Retry(), Tick()])
lapses = st.sampled_from([0.05, 0.5, 3.0, 12.0, 40.0])


def answers_of(how: st.SearchStrategy[str], after: Any = durations) -> st.SearchStrategy[list[Answer]]:
    """What a broker of this temper does to one attempt after the other."""
    return st.lists(st.tuples(how, after, jitters), min_size=1, max_size=8)


def history_of(failures: st.SearchStrategy[FailureKind], *more: Event) -> st.SearchStrategy[list[Any]]:
    """Time passing, sessions lost, and people asking for things."""
    return st.lists(st.one_of(lapses, failures, asks, *map(st.just, more)), max_size=12)


only_transient = st.just(TRANSIENT)


@unhurried
@given(policies, answers_of(bad), history_of(kinds, Stop()))
def test_there_are_never_two_connections_and_none_leaks(
    policy: Policy, answers: list[Answer], history: list[Any]
) -> None:
    sim = Simulator(policy, answers)
    sim.feed(Start())
    for what in history:
        sim.do(what)
    note(sim.state.phase)


@unhurried
@given(policies, answers_of(bad), history_of(kinds))
def test_a_stopped_machine_is_closed_once_the_connection_is(
    policy: Policy, answers: list[Answer], history: list[Any]
) -> None:
    sim = Simulator(policy, answers)
    for what in [Start(), *history, Stop()]:
        sim.do(what)
    sim.advance(2 * LATENCY)
    assert sim.state.phase is Phase.CLOSED
    assert not sim.live


def recover(sim: Simulator, history: list[Any]) -> tuple[float, float]:
    """Live through the history, then heal the broker: seconds it took to be ready, and until then down."""
    for what in [Start(), *history]:
        sim.do(what)
    sim.healthy = True
    healed, outage = (
        sim.now,
        sim.now - (sim.now if sim.state.outage_since is None else sim.state.outage_since),
    )
    while sim.state.phase is not Phase.READY:
        assert sim.now - healed < 120, "it never came back"
        sim.advance(0.05)
    return sim.now - healed, outage


@unhurried
@given(answers_of(prompt, st.sampled_from([0.01, 0.1, 1.0])), history_of(only_transient))
def test_in_the_first_minute_a_broker_that_is_back_is_found_within_five_seconds(
    answers: list[Answer], history: list[Any]
) -> None:
    took, outage = recover(Simulator(POLICY, answers), history)
    assert outage >= 59 or took <= 5  # the last attempt has to fail within the minute


@unhurried
@given(answers_of(mild), history_of(only_transient))
def test_five_seconds_hold_for_attempts_that_hang_too_if_they_may_hang_no_longer_than_that_allows(
    answers: list[Answer], history: list[Any]
) -> None:
    policy = Policy(attempt_timeout=2.5)
    took, outage = recover(Simulator(policy, answers), history)
    assert outage >= 57 or took <= 5  # the last attempt has to time out within the minute


@unhurried
@given(policies, answers_of(mild), history_of(only_transient))
def test_after_any_outage_a_broker_that_is_back_is_found_within_one_timeout_and_one_wait(
    policy: Policy, answers: list[Answer], history: list[Any]
) -> None:
    took, _ = recover(Simulator(policy, answers), history)
    assert took <= policy.attempt_timeout + policy.backoff.maximum + 2 * LATENCY


@unhurried
@given(answers_of(bad), history_of(kinds))
def test_a_machine_that_retries_by_itself_comes_back_from_every_failure(
    answers: list[Answer], history: list[Any]
) -> None:
    took, _ = recover(Simulator(SELF_HEALING, answers), history)
    assert took <= SELF_HEALING.attempt_timeout + SELF_HEALING.backoff.maximum + 2 * LATENCY
