"""Headers that look like one seen before are read the quick way, with the same result as reading them in full."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from eventbus_rabbitmq._mapping import HeaderEncoder, read_message
from eventbus_rabbitmq._recognising import MOST_MISSES, HeaderReader, Recognised, seconds_of
from eventbus_rabbitmq._wire.frames import CONTENT_HEAD
from eventbus_rabbitmq._wire.properties import Properties, decode_properties, encode_properties
from eventbus_rabbitmq._wire.tables import WireError
from hypothesis import given
from hypothesis import strategies as st

from eventbus._cloudevents import parse_time
from eventbus._ids import correlation_id, uuid7
from eventbus._keys import key_headers
from eventbus._message import Message
from eventbus._replies import deadline_headers


def message(**fields: Any) -> Message:
    given = {
        "exchange": "shop", "topic": "orders.placed", "body": b"{}", "id": uuid7(), "type": "orders.placed",
        "source": "shop", "time": time.time(), "subject": "orders.placed", **fields,
    }  # fmt: skip
    return Message(**given)


def header(one: Message) -> bytes:
    return HeaderEncoder().encode(one)


def in_full(payload: bytes) -> Message:
    return read_message("shop", "orders.placed", decode_properties(payload, CONTENT_HEAD.size)[0], b"{}")


def by(reader: HeaderReader, payload: bytes) -> tuple[Message, bool]:
    """What the reader makes of a header, and whether the quick way."""
    found = reader(payload)
    if isinstance(found, Recognised):
        return found.message("shop", "orders.placed", b"{}"), True
    return read_message("shop", "orders.placed", found, b"{}"), False


def same(one: Message, other: Message) -> bool:
    """Equal; times may differ by what a float of seconds cannot hold."""
    return abs(one.time - other.time) < 1e-6 and msgspec.structs.replace(one, time=0.0) == msgspec.structs.replace(
        other, time=0.0
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
kinds = st.fixed_dictionaries(
    {
        "type": texts.filter(bool),
        "source": texts.filter(bool),
        "subject": st.none() | texts,
        "dataschema": st.none() | texts,
        "priority": st.none() | st.integers(0, 9),
        "ttl": st.none() | st.integers(0, 10**6).map(float),
        "persistent": st.booleans(),
        "reply_to": st.none() | st.just("amq.gen-abc"),
        "content_encoding": st.none() | st.just("identity"),
        "headers": st.dictionaries(
            texts.filter(bool), texts | st.integers().filter(lambda n: abs(n) < 2**62), max_size=3
        ),
    }
)


@given(kinds, st.one_of(st.just(None), texts.filter(bool)), st.none() | st.just("c" * 32))
def test_what_was_written_is_read_again(kind: dict[str, Any], ident: str | None, correlation: str | None) -> None:
    # Ids like ours and others, with headers and without: the encoder has a quick way for some of them.
    sent = message(**kind, correlation_id=correlation, **({} if ident is None else {"id": ident}))
    reserved = [name for name in kind["headers"] if name.startswith(("ce-", "x-"))]
    if not reserved:
        assert same(in_full(header(sent)), msgspec.structs.replace(sent, user_id=None))


@given(kinds, st.integers(1, 5), st.booleans(), st.booleans())
def test_the_second_message_of_a_kind_is_recognised_and_reads_as_in_full(
    kind: dict[str, Any], count: int, asks: bool, answers: bool
) -> None:
    reader = HeaderReader()
    for number in range(count + 1):
        extra = deadline_headers(10 + number) if asks else {}
        ident = correlation_id() if asks or answers else None
        payload = header(message(**{**kind, "headers": {**kind["headers"], **extra}, "correlation_id": ident}))
        found, quickly = by(reader, payload)
        assert same(found, in_full(payload))
        if number and not {"ce-id", "ce-time", "eventbus-attempt"} & set(kind["headers"]) and kind["headers"] == {}:
            assert quickly


def test_any_byte_may_be_another_and_the_result_is_still_that_of_reading_in_full() -> None:
    one = message(
        headers={"tenant": "a", **deadline_headers(10), **key_headers("customer-7")},
        correlation_id=correlation_id(),
        reply_to="amq.gen-x",
    )
    payload = header(one)
    for at in range(len(payload)):
        for value in (0x00, 0x24, 0x7F, 0xC3, 0xFF, payload[at] ^ 1):
            reader = HeaderReader()
            reader(payload)
            other = payload[:at] + bytes((value,)) + payload[at + 1 :]
            try:
                expected = in_full(other)
            except WireError:
                with pytest.raises(WireError):
                    reader(other)
                continue
            found, _ = by(reader, other)
            assert same(found, expected), (at, value)


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=6), st.booleans())
def test_keys_are_read_as_in_full(keys: list[str], with_more: bool) -> None:
    reader = HeaderReader()
    for key in keys:
        payload = header(message(headers={"tenant": "a", **key_headers(key)} if with_more else key_headers(key)))
        found, _ = by(reader, payload)
        assert same(found, in_full(payload))


def test_messages_of_different_keys_are_recognised() -> None:
    reader, quickly = HeaderReader(), []
    for number in range(200):
        payload = header(message(headers=key_headers(f"customer-{number:03}")))
        found, quick = by(reader, payload)
        assert found.headers == key_headers(f"customer-{number:03}")
        quickly.append(quick)
    assert quickly.count(False) == 2, "one for slots of one digit, one for those of two"


@pytest.mark.parametrize(
    "headers",
    [
        {"eventbus-key": "k" * 9},
        {"eventbus-key": 5, "eventbus-slot-1": True},
        {"eventbus-key": "k", "eventbus-slot-1": False},
        {"eventbus-key": "k", "eventbus-slot-1": True, "eventbus-slot-2": True},
        {"eventbus-slot-1": True},
        {"eventbus-key": "eventbus-slot-1t\x01", "eventbus-slot-1": True},
        {"eventbus-key": "é", "eventbus-slot-1": True},
    ],
)
def test_keys_that_others_wrote_are_read_as_in_full(headers: dict[str, Any]) -> None:
    reader = HeaderReader()
    for tenant in ("a", "b", "b"):
        payload = header(message(headers={"tenant": tenant, **headers}))
        assert same(by(reader, payload)[0], in_full(payload))


def test_headers_given_to_two_handlers_are_two() -> None:
    reader = HeaderReader()
    first, second, third = (by(reader, header(message(headers={"tenant": "a"}))) for _ in range(3))
    assert (first[1], second[1], third[1]) == (False, True, True)
    assert second[0].headers == third[0].headers == {"tenant": "a"}
    assert second[0].headers is not third[0].headers


@pytest.mark.parametrize(
    "headers",
    [{"eventbus-attempt": 2}, {"x-death": []}, {"x-delivery-count": 3}, {"tags": ["a"]}, {"deep": {"a": 1}}],
)
def test_what_has_a_past_or_lists_to_share_is_read_in_full(headers: dict[str, Any]) -> None:
    table = {"ce-id": "i" * 36, "ce-time": "2026-01-01T00:00:00.000000Z", "ce-type": "t", "ce-source": "s", **headers}
    properties = Properties(headers=table, message_id="i" * 36, timestamp=5)
    payload = CONTENT_HEAD.pack(60, 0, 2) + encode_properties(properties)
    reader = HeaderReader()
    assert [by(reader, payload)[1] for _ in range(3)] == [False] * 3


def test_lengths_that_many_kinds_share_are_given_up_and_memory_stays_bounded() -> None:
    reader = HeaderReader()
    for number in range(1000):
        by(reader, header(message(type=f"orders.{number:04}")))
    for number in range(1000):
        by(reader, header(message(type="x" * (number % 200 + 1), subject="y" * (number % 250))))
    assert all(misses <= MOST_MISSES for misses in reader._misses.values())
    assert len(reader._misses) <= 256
    assert len(reader._shapes) <= 256


@given(st.floats(1e6, 4e9))
def test_times_are_read_as_in_full(seconds: float) -> None:
    from eventbus_rabbitmq._mapping import rfc3339

    text = rfc3339(seconds)
    assert abs(seconds_of(text) - seconds) < 1e-6 * 2
    assert abs(seconds_of(text) - parse_time(text)) < 1e-6


@pytest.mark.parametrize(
    "text", ["", "x" * 27, "2026-13-01T00:00:00.000000Z", "2026-01-01T00:00:00+02:00", "2026-01-01"]
)
def test_other_forms_of_time_are_left_to_the_full_reader(text: str) -> None:
    assert seconds_of(text) == parse_time(text)
