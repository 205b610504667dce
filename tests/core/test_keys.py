"""Ordering keys: from an event, a template or a publish, onto the message."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest

from eventbus import ConfigurationError, EncodingError, EventBus, Message, event
from eventbus._keys import SLOT_HEADERS, SLOTS, key_of, slot_of, slots_of


class Plan(Enum):
    GOLD = "gold.plus"


@event("orders.placed", key="{customer}/{plan}")
@dataclass
class Placed:
    customer: int
    plan: Plan = Plan.GOLD


@event("orders.noted")
@dataclass
class Noted:
    text: str = ""


@pytest.fixture
def bus() -> EventBus:
    return EventBus("memory://", service="keys")


def test_the_key_comes_from_the_class_s_template(bus: EventBus) -> None:
    message = bus.message(Placed(7))
    assert key_of(message) == "7/gold.plus"
    assert message.headers == {"eventbus-key": "7/gold.plus", SLOT_HEADERS[slot_of("7/gold.plus")]: True}


def test_a_publish_may_say_another_key(bus: EventBus) -> None:
    message = bus.message(Placed(7), key="vip", headers={"mine": 1, "eventbus-key": "forged"})
    assert key_of(message) == "vip"
    assert message.headers == {"mine": 1, "eventbus-key": "vip", SLOT_HEADERS[slot_of("vip")]: True}


def test_without_a_key_nothing_is_added(bus: EventBus) -> None:
    assert bus.message(Noted()).headers == {}
    assert key_of(bus.message(Noted(), headers={"a": 1})) is None
    assert key_of(bus.message({"plain": 1}, topic="t", key="k")) == "k"


def test_other_options_leave_the_template_s_key_alone(bus: EventBus) -> None:
    assert key_of(bus.message(Placed(7), ttl=5.0)) == "7/gold.plus"


@pytest.mark.parametrize("key", ["", 5, "x" * 256, "é" * 128, "\ud800"])
def test_a_key_that_cannot_be_sent_is_refused(bus: EventBus, key: Any) -> None:
    with pytest.raises(EncodingError, match="ordering key"):
        bus.message(Noted(), key=key)


@pytest.mark.parametrize("key", ["x" * 255, "é" * 127, "日本", " ", "a.b*#"])
def test_any_other_text_is_a_key(bus: EventBus, key: str) -> None:
    assert key_of(bus.message(Noted(), key=key)) == key


def test_a_field_that_does_not_fit_is_an_error_of_that_publish(bus: EventBus) -> None:
    with pytest.raises(EncodingError, match="part of an ordering key"):
        bus.message(Placed("seven"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "why"),
    [("{missing}", "no field 'missing'"), ("fixed", "one key"), ("{maybe}", "may be None"), ("{customer", "read")],
)
def test_a_template_that_cannot_work_is_an_error_at_the_class(key: str, why: str) -> None:
    @dataclass
    class Made:
        customer: UUID
        maybe: str | None = None

    with pytest.raises(ConfigurationError, match=why):
        event("made", key=key)(Made)


def test_slots_are_those_that_other_languages_compute() -> None:
    # CRC-32 of zlib; "123456789" is its published check value, cbf43926.
    assert slot_of("123456789") == 0xCBF43926 % 64
    assert slot_of("日本") == 0xC7B7CDCC % 64  # of its bytes in UTF-8


def test_every_slot_belongs_to_one_partition_and_keys_spread() -> None:
    for partitions in (1, 2, 5, 8, 63, 64):
        owners = Counter(slot for partition in range(partitions) for slot in slots_of(partition, partitions))
        assert owners == dict.fromkeys(range(SLOTS), 1)
    spread = Counter(slot_of(f"customer-{number}") % 8 for number in range(8000))
    assert min(spread.values()) > 800


def test_a_key_that_a_stranger_wrote_is_text_or_nothing() -> None:
    message = Message(exchange="", topic="t", body=b"", id="i", type="t")
    for strange in (5, b"k", None, "", ["k"]):
        assert key_of(msgspec.structs.replace(message, headers={"eventbus-key": strange})) is None
