"""What becomes of a delivery, as data."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import DecodingError, Message, Reject, Retry, RetryLater, exponential, fixed
from eventbus._settlement import (
    ACK,
    ATTEMPT,
    FIRST_SEEN,
    MAX_ATTEMPT,
    DeadLetter,
    Origin,
    RetryIn,
    dead_letter_copy,
    digest_of,
    error_text,
    restore_origin,
    retry_copy,
    settlement_of,
)
from eventbus.transport import Incoming

RETRY = Retry(attempts=3, backoff=None)


def incoming(**changes: object) -> Incoming:
    message = Message(exchange="shop", topic="a.b", body=b"{}", id="1", type="t", headers={"tenant": "x"}, ttl=5.0)
    return Incoming(message=message, consumer="c", queue="g.t", **changes)  # type: ignore[arg-type]


def test_a_handler_that_returns_acks() -> None:
    assert settlement_of(None, 1, RETRY) == ACK


def without_digest(settled: object) -> DeadLetter:
    assert isinstance(settled, DeadLetter)
    return msgspec.structs.replace(settled, digest="")


def test_a_failing_handler_is_retried_until_its_attempts_are_spent() -> None:
    outcomes = [settlement_of(ValueError("no"), n, RETRY) for n in (1, 2, 3)]
    assert outcomes[:2] == [RetryIn(delay=0.0)] * 2
    assert without_digest(outcomes[2]) == DeadLetter(
        reason="the handler failed in all 3 attempts", error_type="ValueError", error="no"
    )


def test_reject_gives_up_at_once_with_its_reason() -> None:
    assert without_digest(settlement_of(Reject("no such customer"), 1, RETRY)) == DeadLetter(
        reason="no such customer", error_type="Reject", error="no such customer"
    )


def test_an_undecodable_body_is_never_retried() -> None:
    assert isinstance(settlement_of(DecodingError("x"), 1, RETRY), DeadLetter)


def test_retry_later_says_the_delay_but_not_beyond_the_attempts() -> None:
    assert settlement_of(RetryLater(7.5), 1, RETRY) == RetryIn(delay=7.5)
    assert isinstance(settlement_of(RetryLater(7.5), 3, RETRY), DeadLetter)


def test_errors_to_give_up_on_are_dead_lettered_at_the_first_attempt() -> None:
    policy = Retry(attempts=5, give_up_on=(KeyError,))
    assert isinstance(settlement_of(KeyError("k"), 1, policy), DeadLetter)
    assert isinstance(settlement_of(ValueError("k"), 1, policy), RetryIn)


def test_only_errors_of_the_chosen_types_are_tried_again() -> None:
    policy = Retry(attempts=5, on=(OSError,), give_up_on=(FileNotFoundError,))
    assert isinstance(settlement_of(ConnectionResetError(), 1, policy), RetryIn)
    assert isinstance(settlement_of(ValueError(), 1, policy), DeadLetter)
    assert isinstance(settlement_of(FileNotFoundError(), 1, policy), DeadLetter)
    assert settlement_of(RetryLater(2.0), 1, policy) == RetryIn(delay=2.0)


@given(
    st.integers(1, 500),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.001, 1000),
    st.floats(1, 10),
    st.floats(0, 1),
)
def test_the_pause_grows_up_to_its_maximum_and_jitter_only_shortens_it(
    attempt: int, luck: float, first: float, factor: float, jitter: float
) -> None:
    policy = Retry(attempts=1000, backoff=exponential(first, 300, factor=factor, jitter=jitter))
    whole = min(300, first * factor ** min(attempt - 1, 64))
    assert whole * (1 - jitter) * 0.999999 <= policy.pause(attempt, luck) <= whole


def test_pauses_by_default_double_from_a_second_on() -> None:
    assert [Retry().pause(attempt, 1.0) for attempt in (1, 2, 3, 4, 20)] == [1, 2, 4, 8, 300]
    assert Retry(backoff=fixed(5)).pause(9, 0.3) == 5
    assert Retry(backoff=None).pause(9, 0.3) == 0


@pytest.mark.parametrize("bad", [{"first": -1}, {"factor": 0.5}, {"maximum": -1}, {"jitter": 1.5}])
def test_a_backoff_out_of_range_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="backoff"):
        exponential(**bad)


def test_a_policy_without_an_attempt_is_refused() -> None:
    with pytest.raises(ValueError, match="attempts"):
        Retry(attempts=0)


def fails(text: str) -> BaseException:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def fails_elsewhere(text: str) -> BaseException:
    try:
        int(text)
    except ValueError as error:
        return error
    raise AssertionError


def test_a_digest_names_the_place_and_type_of_a_failure_and_not_its_text() -> None:
    one, two = fails("a"), fails("b")
    assert digest_of(one) == digest_of(two)
    assert digest_of(fails_elsewhere("a")) != digest_of(one)
    settled = settlement_of(one, 3, RETRY)
    assert isinstance(settled, DeadLetter)
    assert settled.digest == digest_of(one)
    assert len(settled.digest) == 12


def test_a_delay_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError):
        RetryLater(-1)


def test_a_retry_copy_comes_back_as_the_message_that_was_published() -> None:
    original = incoming(attempt=2)
    copy = retry_copy(original)
    assert (copy.exchange, copy.topic) == ("", "g.t")
    origin = restore_origin(copy)
    assert origin.message == original.message
    assert origin.attempt == 3
    assert origin.first_seen == pytest.approx(time.time(), abs=60)


def test_a_second_retry_still_knows_where_and_since_when_the_message_came() -> None:
    first = restore_origin(retry_copy(incoming(first_seen=1_700_000_000.0)))
    again = Incoming(
        message=first.message, consumer="c", queue="g.t", attempt=first.attempt, first_seen=first.first_seen
    )
    assert restore_origin(retry_copy(again)) == Origin(incoming().message, 3, 1_700_000_000.0)


def test_a_copy_is_never_held_back_as_its_original_was() -> None:
    late = Incoming(message=msgspec.structs.replace(incoming().message, deliver_at=9e9), consumer="c", queue="q")
    assert retry_copy(late).deliver_at is None
    assert dead_letter_copy(late, DeadLetter(reason="r"), "q.dead").deliver_at is None


def test_a_dead_letter_copy_says_why_and_from_where_and_does_not_expire() -> None:
    settled = DeadLetter(reason="r", error_type="E", error="text", digest="d1")
    copy = dead_letter_copy(incoming(attempt=3, first_seen=1_700_000_000.0), settled, "g.t.dead")
    assert (copy.exchange, copy.topic, copy.ttl, copy.body) == ("", "g.t.dead", None, b"{}")
    told = {k: v for k, v in copy.headers.items() if k.startswith("eventbus-") and k != "eventbus-dead-time"}
    assert told == {
        "eventbus-exchange": "shop",
        "eventbus-topic": "a.b",
        "eventbus-first-seen": 1_700_000_000,
        "eventbus-dead-reason": "r",
        "eventbus-dead-error-type": "E",
        "eventbus-dead-error": "text",
        "eventbus-dead-digest": "d1",
        "eventbus-dead-queue": "g.t",
        "eventbus-dead-attempts": 3,
    }
    assert copy.headers["tenant"] == "x"


@pytest.mark.parametrize("forged", [-5, 0, True, "7", None, 10**30])
def test_a_forged_attempt_header_is_clamped(forged: object) -> None:
    message = Message(exchange="", topic="q", body=b"", id="1", type="", headers={ATTEMPT: forged})
    assert 1 <= restore_origin(message).attempt <= MAX_ATTEMPT


@pytest.mark.parametrize("forged", [-5, 0, True, "7", 10**30, 4.5])
def test_a_forged_time_of_the_first_attempt_is_not_believed(forged: object) -> None:
    headers = {ATTEMPT: 2, FIRST_SEEN: forged}
    message = Message(exchange="", topic="q", body=b"", id="1", type="", headers=headers)
    assert restore_origin(message).first_seen is None


@given(st.text())
def test_error_texts_are_one_bounded_printable_line(text: str) -> None:
    shown = error_text(ValueError(text))
    assert len(shown) <= 1024
    assert not any(ord(c) < 32 for c in shown)


def test_an_error_whose_text_cannot_be_made_is_still_told() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "could not be made" in error_text(Broken())
