"""What a row holds comes back as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from eventbus_outbox._stored import Stored, decode, encode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus import DecodingError, EncodingError, Exchange, Message

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.datetimes(min_value=datetime(1700, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(headers=st.dictionaries(st.text("abcdef", min_size=1), values, max_size=6), body=st.binary())
def test_any_header_and_body_come_back(headers: dict[str, object], body: bytes) -> None:
    message = Message(exchange="x", topic="a.b", body=body, id="1", type="t", headers=headers)
    exchange = Exchange(name="x", arguments={"price": Decimal("1.50"), "alternate-exchange": "y"})
    stored = Stored(message=message, exchange=exchange, mandatory=True)
    assert decode(encode(stored)) == stored


def test_every_attribute_of_a_message_is_stored() -> None:
    other = {
        "exchange": "x", "topic": "a", "body": b"{}", "id": "1", "type": "t", "source": "s", "time": 1.5,
        "subject": "u",
        "dataschema": "d", "content_type": "text/plain", "content_encoding": "gzip", "headers": {"a": 1},
        "correlation_id": "c", "reply_to": "r", "priority": 3, "ttl": 4.5, "persistent": False, "user_id": "me",
        "deliver_at": 9.5,
    }  # fmt: skip
    assert set(other) == set(Message.__struct_fields__), "a new attribute belongs into this test"
    message = Message(**other)  # type: ignore[arg-type]
    assert decode(encode(Stored(message=message))).message == message


def test_rows_of_other_versions_are_read() -> None:
    message = {"exchange": "x", "topic": "a", "body": b"{}", "id": "1", "type": "t"}
    newer = msgspec.msgpack.encode({"message": {**message, "colour": "red"}, "shape": "round"})
    assert decode(newer).message == Message(exchange="x", topic="a", body=b"{}", id="1", type="t")


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\x80", b"not ours", msgspec.msgpack.encode({"message": {"id": 5}}),
     msgspec.msgpack.encode({"message": {"headers": {"a": msgspec.msgpack.Ext(99, b"x")}}}),
     msgspec.msgpack.encode({"message": {"headers": {"a": msgspec.msgpack.Ext(1, b"x")}}}),
     msgspec.msgpack.encode({"message": {"headers": {"a": msgspec.msgpack.Ext(2, b"\xff")}}})],
)  # fmt: skip
def test_what_is_not_ours_is_a_decoding_error(body: bytes) -> None:
    with pytest.raises(DecodingError):
        decode(body)


@pytest.mark.parametrize("value", [object(), 2**70, {1: object()}])
def test_what_cannot_be_stored_is_an_encoding_error(value: object) -> None:
    message = Message(exchange="x", topic="a", body=b"{}", id="1", type="t", headers={"a": value})
    with pytest.raises(EncodingError):
        encode(Stored(message=message))


def test_a_header_that_contains_itself_is_an_encoding_error() -> None:
    endless: list[object] = []
    endless.append(endless)
    message = Message(exchange="x", topic="a", body=b"{}", id="1", type="t", headers={"a": endless})
    with pytest.raises(EncodingError):
        encode(Stored(message=message))
