"""What becomes of a delivery, as data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import DecodingError, Message, Reject, Retry, RetryLater
from eventbus._settlement import (
    ACK,
    ATTEMPT,
    MAX_ATTEMPT,
    DeadLetter,
    RetryIn,
    dead_letter_copy,
    error_text,
    restore_origin,
    retry_copy,
    settlement_of,
)
from eventbus.transport import Incoming

RETRY = Retry(attempts=3)


def incoming(**changes: object) -> Incoming:
    message = Message(exchange="shop", topic="a.b", body=b"{}", id="1", type="t", headers={"tenant": "x"}, ttl=5.0)
    return Incoming(message=message, consumer="c", queue="g.t", **changes)  # type: ignore[arg-type]


def test_a_handler_that_returns_acks() -> None:
    assert settlement_of(None, 1, RETRY) == ACK


def test_a_failing_handler_is_retried_until_its_attempts_are_spent() -> None:
    outcomes = [settlement_of(ValueError("no"), n, RETRY) for n in (1, 2, 3)]
    assert outcomes[:2] == [RetryIn(delay=0.0)] * 2
    assert outcomes[2] == DeadLetter(reason="the handler failed in all 3 attempts", error_type="ValueError", error="no")


def test_reject_gives_up_at_once_with_its_reason() -> None:
    assert settlement_of(Reject("no such customer"), 1, RETRY) == DeadLetter(
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


@given(st.integers(1, 500), st.floats(0, 1, exclude_max=True), st.floats(0.001, 1000), st.floats(1, 10))
def test_the_pause_lies_between_half_and_the_whole_of_its_step(
    attempt: int, jitter: float, delay: float, factor: float
) -> None:
    policy = Retry(attempts=1000, delay=delay, factor=factor, maximum=300)
    whole = min(300, delay * factor ** min(attempt - 1, 64))
    assert whole * 0.5 <= policy.pause(attempt, jitter) <= whole


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"delay": -1}, {"factor": 0.5}, {"maximum": -1}])
def test_a_policy_out_of_range_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Retry(**bad)  # type: ignore[arg-type]


def test_a_delay_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError):
        RetryLater(-1)


def test_a_retry_copy_comes_back_as_the_message_that_was_published() -> None:
    original = incoming(attempt=2)
    copy = retry_copy(original)
    assert (copy.exchange, copy.topic) == ("", "g.t")
    message, attempt = restore_origin(copy)
    assert message == original.message
    assert attempt == 3


def test_a_second_retry_still_knows_where_the_message_came_from() -> None:
    message, attempt = restore_origin(retry_copy(incoming()))
    again = Incoming(message=message, consumer="c", queue="g.t", attempt=attempt)
    assert restore_origin(retry_copy(again)) == (incoming().message, 3)


def test_a_dead_letter_copy_says_why_and_from_where_and_does_not_expire() -> None:
    copy = dead_letter_copy(incoming(attempt=3), DeadLetter(reason="r", error_type="E", error="text"), "g.t.dead")
    assert (copy.exchange, copy.topic, copy.ttl, copy.body) == ("", "g.t.dead", None, b"{}")
    told = {k: v for k, v in copy.headers.items() if k.startswith("eventbus-") and k != "eventbus-dead-time"}
    assert told == {
        "eventbus-exchange": "shop",
        "eventbus-topic": "a.b",
        "eventbus-dead-reason": "r",
        "eventbus-dead-error-type": "E",
        "eventbus-dead-error": "text",
        "eventbus-dead-queue": "g.t",
        "eventbus-dead-attempts": 3,
    }
    assert copy.headers["tenant"] == "x"


@pytest.mark.parametrize("forged", [-5, 0, True, "7", None, 10**30])
def test_a_forged_attempt_header_is_clamped(forged: object) -> None:
    message = Message(exchange="", topic="q", body=b"", id="1", type="", headers={ATTEMPT: forged})
    _, attempt = restore_origin(message)
    assert 1 <= attempt <= MAX_ATTEMPT


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
