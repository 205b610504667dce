"""Request/reply bookkeeping, as data."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import DecodingError, Message, RemoteError, RequestLost
from eventbus._replies import (
    DEADLINE,
    REPLY_ADDRESSES,
    PendingReplies,
    deadline_headers,
    failure_message,
    is_expired,
    read_reply,
    reply_allowed,
    reply_message,
)

REQUEST = Message(exchange="r", topic="t", body=b"1", id="1", type="q", reply_to="amq.gen-1", correlation_id="c")


def message(correlation: str | None) -> Message:
    return Message(exchange="", topic="q", body=b"1", id="1", type="x", correlation_id=correlation)


def test_a_reply_finds_its_waiter_once() -> None:
    pending, got = PendingReplies(), []
    pending.add("a", lambda reply: got.append(reply) is None)
    pending.resolve(message("a"))
    pending.resolve(message("a"))
    assert len(got) == 1
    assert pending.unmatched == 1
    assert len(pending) == 0


def test_a_waiter_that_wants_more_gets_more() -> None:
    pending, got = PendingReplies(), []

    def take(reply: Any) -> bool:
        got.append(reply)
        return len(got) == 2

    pending.add("a", take)
    for _ in range(3):
        pending.resolve(message("a"))
    assert len(got) == 2
    assert pending.unmatched == 1


@pytest.mark.parametrize("correlation", [None, "", "unknown"])
def test_a_reply_that_nobody_waits_for_is_dropped_and_counted(correlation: str | None) -> None:
    pending = PendingReplies()
    pending.resolve(message(correlation))
    assert pending.unmatched == 1


def test_a_lost_connection_ends_every_wait_at_once() -> None:
    pending, got = PendingReplies(), []
    for name in "abc":
        pending.add(name, lambda reply: got.append(reply) is None)
    pending.fail_all(RequestLost("gone"))
    assert [type(error) for error in got] == [RequestLost] * 3
    pending.fail("a", RequestLost("again"))
    assert len(got) == 3


def test_deadlines_travel_in_milliseconds() -> None:
    assert not is_expired(msgspec.structs.replace(REQUEST, headers=deadline_headers(5)))
    assert is_expired(msgspec.structs.replace(REQUEST, headers=deadline_headers(-5)))


@given(st.one_of(st.text(), st.booleans(), st.none(), st.binary()))
def test_a_strange_deadline_never_expires_a_request(value: object) -> None:
    assert not is_expired(msgspec.structs.replace(REQUEST, headers={DEADLINE: value}))


def test_only_reply_addresses_may_be_answered() -> None:
    assert reply_allowed("amq.gen-xyz", REPLY_ADDRESSES)
    assert reply_allowed("amq.rabbitmq.reply-to.abc", REPLY_ADDRESSES)
    assert not reply_allowed("payments.charge", REPLY_ADDRESSES)


def test_a_reply_is_read_as_its_type() -> None:
    reply = reply_message(REQUEST, b"42", type="int", source="s", id="2")
    assert (reply.exchange, reply.topic, reply.correlation_id, reply.persistent) == ("", "amq.gen-1", "c", False)
    assert read_reply(reply, msgspec.json.Decoder(int).decode) == 42


def test_a_remote_failure_is_raised_as_data() -> None:
    reply = failure_message(REQUEST, ValueError("no such product"), source="s", id="2")
    with pytest.raises(RemoteError) as caught:
        read_reply(reply, bytes)
    assert (caught.value.type_name, caught.value.message) == ("ValueError", "no such product")


@given(st.binary(max_size=64))
def test_a_garbled_failure_is_a_decoding_error_or_a_remote_error(body: bytes) -> None:
    reply = msgspec.structs.replace(failure_message(REQUEST, ValueError("x"), source="s", id="2"), body=body)
    with pytest.raises((DecodingError, RemoteError)):
        read_reply(reply, bytes)
