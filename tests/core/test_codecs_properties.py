"""Whatever the values are: four kinds of classes write the same bytes, and read back what they wrote."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import attrs
import msgspec
import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus._codecs import JsonCodec
from eventbus._errors import DecodingError

CODEC = JsonCodec()


class Color(Enum):
    RED = "red"
    GREEN = "grün"


class Size(IntEnum):
    SMALL = 1
    BIG = 2


@dataclass(frozen=True, slots=True)
class DataLine:
    sku: str
    price: Decimal
    tags: list[str]


@dataclass
class DataEvent:
    id: UUID
    at: datetime
    day: date
    time: time
    price: Decimal
    color: Color
    size: Size
    paid: bool
    note: str | None
    count: int
    weight: float
    line: DataLine
    lines: list[DataLine]
    by_name: dict[str, DataLine]
    by_number: dict[int, float]
    by_id: dict[UUID, date | None]
    pair: tuple[int, str]
    several: tuple[Decimal, ...]


def hints(line: type) -> dict[str, Any]:
    """The fields of DataEvent, with another class of lines."""
    own: dict[str, Any] = {
        **{field.name: eval(str(field.type)) for field in fields(DataEvent)},
        "line": line,
        "lines": list[line],  # type: ignore[valid-type]
        "by_name": dict[str, line],  # type: ignore[valid-type]
    }
    return own


LINE: dict[str, Any] = {"sku": str, "price": Decimal, "tags": list[str]}
AttrsLine: Any = attrs.make_class("AttrsLine", {k: attrs.field(type=v) for k, v in LINE.items()})
AttrsEvent: Any = attrs.make_class("AttrsEvent", {k: attrs.field(type=v) for k, v in hints(AttrsLine).items()})
StructLine: Any = msgspec.defstruct("StructLine", list(LINE.items()))
StructEvent: Any = msgspec.defstruct("StructEvent", list(hints(StructLine).items()))
ModelLine: Any = pydantic.create_model("ModelLine", **LINE)
ModelEvent: Any = pydantic.create_model("ModelEvent", **hints(ModelLine))

KINDS = [(DataEvent, DataLine), (AttrsEvent, AttrsLine), (StructEvent, StructLine), (ModelEvent, ModelLine)]
ENCODERS = [(CODEC.encoder(event), event, line) for event, line in KINDS]
DECODERS = [(CODEC.decoder(event), event, line) for event, line in KINDS]

zones: st.SearchStrategy[Any] = (
    st.none() | st.just(UTC) | st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))
)
# Years that stay years in any zone; where exponents begin, texts differ (see eventbus._codecs.values).
datetimes = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=zones)
floats = st.floats(-1e15, 1e15)
integers = st.integers(-(2**63), 2**63 - 1)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
lines = st.fixed_dictionaries({"sku": st.text(), "price": decimals, "tags": st.lists(st.text(), max_size=3)})
events = st.fixed_dictionaries(
    {
        "id": st.uuids(),
        "at": datetimes,
        "day": st.dates(),
        "time": st.times(),
        "price": decimals,
        "color": st.sampled_from(Color),
        "size": st.sampled_from(Size),
        "paid": st.booleans(),
        "note": st.none() | st.text(),
        "count": integers,
        "weight": floats,
        "line": lines,
        "lines": st.lists(lines, max_size=3),
        "by_name": st.dictionaries(st.text(), lines, max_size=2),
        "by_number": st.dictionaries(integers, floats, max_size=2),
        "by_id": st.dictionaries(st.uuids(), st.none() | st.dates(), max_size=2),
        "pair": st.tuples(integers, st.text()),
        "several": st.lists(decimals, max_size=3).map(tuple),
    }
)


def build(event: Any, line: Any, values: dict[str, Any]) -> Any:
    return event(
        **{
            **values,
            "line": line(**values["line"]),
            "lines": [line(**each) for each in values["lines"]],
            "by_name": {name: line(**each) for name, each in values["by_name"].items()},
        }
    )


@given(events)
def test_all_kinds_write_the_same_bytes(values: dict[str, Any]) -> None:
    bodies = {encode(build(event, line, values)) for encode, event, line in ENCODERS}
    assert len(bodies) == 1


@given(events)
def test_every_kind_reads_back_what_was_written(values: dict[str, Any]) -> None:
    body = CODEC.encoder(DataEvent)(build(DataEvent, DataLine, values))
    for decode, event, line in DECODERS:
        assert decode(body) == build(event, line, values)


@given(events)
def test_what_is_written_is_json_in_utf_8(values: dict[str, Any]) -> None:
    body = CODEC.encoder(DataEvent)(build(DataEvent, DataLine, values))
    plain = CODEC.decoder(dict)(body)
    assert orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    assert list(plain) == [field.name for field in fields(DataEvent)]


@dataclass
class DataBytes:
    raw: bytes
    long: timedelta


@attrs.define
class AttrsBytes:
    raw: bytes
    long: timedelta


class StructBytes(msgspec.Struct):
    raw: bytes
    long: timedelta


@given(st.binary(), st.timedeltas(timedelta(days=-1000), timedelta(days=1000)))
def test_bytes_and_durations_are_the_same_in_all_kinds_but_pydantic(raw: bytes, long: timedelta) -> None:
    bodies = set()
    for cls in (DataBytes, AttrsBytes, StructBytes):
        body = CODEC.encoder(cls)(cls(raw, long))
        assert CODEC.decoder(cls)(body) == cls(raw, long)
        bodies.add(body)
    assert len(bodies) == 1


@pytest.mark.parametrize("decode", [*(each[0] for each in DECODERS), CODEC.decoder(dict), CODEC.decoder(list[int])])
@given(body=st.binary() | st.text(alphabet='{}[]",:0123456789.eE-+ntfNI').map(str.encode))
def test_no_body_whatever_raises_anything_else_than_a_decoding_error(decode: Any, body: bytes) -> None:
    try:
        decode(body)
    except DecodingError:
        pass
