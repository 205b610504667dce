"""Kinds of event classes, and values that JSON does not have."""

from __future__ import annotations

import enum
import importlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Seen, noting


class Colour(enum.Enum):
    """Members by value."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """Members by number."""

    LOW = 1
    HIGH = 9


@dataclass(frozen=True)
class Address:
    """Nested in others."""

    street: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Everything:
    """One field of each kind."""

    ident: UUID
    amount: Decimal
    at: datetime
    day: date
    colour: Colour
    level: Level
    address: Address
    others: list[Address] = field(default_factory=list)
    names: dict[str, Address] = field(default_factory=dict)
    maybe: str | None = None
    ratio: float = 0.1
    big: int = 2**53
    raw: bytes = b"\x00\xff"
    took: timedelta = timedelta(seconds=1.5)


class Struct(msgspec.Struct, frozen=True, rename="camel"):
    """A msgspec event with fields of other names on the wire."""

    order_id: int
    total_amount: Decimal = Decimal("0.00")


EVERYTHING: dict[str, Any] = {
    "ident": UUID(int=7),
    "amount": Decimal("12345678901234567890.10"),
    "at": datetime(2030, 2, 3, 4, 5, 6, 789012, tzinfo=UTC),
    "day": date(2030, 2, 3),
    "colour": Colour.BLUE,
    "level": Level.HIGH,
    "address": Address("Götgatan 1", ("a", "b")),
    "others": [Address("x"), Address("y")],
    "names": {"home": Address("h")},
    "maybe": None,
}


class Kinds:
    """Every kind of class goes there and back unchanged."""

    def _there_and_back(self, stage: Stage, event: type, *values: Any) -> None:
        seen = Seen[Any]()
        bus = stage.bus()
        bus.subscribe(event)(noting(seen))
        bus.start()
        for value in values:
            bus.publish(value)
        assert seen.wait(len(values)) == list(values)
        assert all(type(found) is event for found in seen.all)

    def test_a_dataclass_goes_there_and_back(self, stage: Stage) -> None:
        event = stage.event(Everything)
        self._there_and_back(stage, event, event(**EVERYTHING), event(**{**EVERYTHING, "maybe": "grüße \u2028 \x00"}))

    def test_a_struct_goes_there_and_back(self, stage: Stage) -> None:
        event = stage.event(Struct, topic="orders.{order_id}")
        self._there_and_back(stage, event, event(1), event(2, Decimal("9.90")))

    def test_an_attrs_class_goes_there_and_back(self, stage: Stage) -> None:
        if (attrs := _optional("attrs")) is None:
            return
        event = stage.event(attrs.make_class("Attrs", {"value": attrs.field(type=int), "name": attrs.field(type=str)}))
        self._there_and_back(stage, event, event(1, "one"), event(2, "two"))

    def test_a_pydantic_model_goes_there_and_back(self, stage: Stage) -> None:
        if (pydantic := _optional("pydantic")) is None:
            return
        event = stage.event(pydantic.create_model("Model", value=(int, ...), amount=(Decimal, Decimal("0.10"))))
        self._there_and_back(stage, event, event(value=1), event(value=2, amount=Decimal("3.30")))


def _optional(name: str) -> Any:
    """The module where the user has it: the core works without."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
