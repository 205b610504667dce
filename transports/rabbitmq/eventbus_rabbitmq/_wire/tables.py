"""AMQP 0-9-1 field tables: Python values to bytes and back, within limits.

Source: AMQP 0-9-1 section 4.2.5.5, with the type letters of RabbitMQ's "AMQP 0-9-1 errata"
(https://www.rabbitmq.com/docs/specification), which are the ones that brokers and clients really send.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec


class WireError(Exception):
    """Bytes from the peer that cannot be read."""


class MalformedData(WireError):
    """Truncated or ill-formed."""


class LimitExceeded(WireError):
    """Well-formed perhaps, but deeper or larger than we read."""


class UnsupportedValue(ValueError):
    """A Python value that has no place in a field table; the text names where it stands."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds for one table: levels (the table itself is the first), entries over all levels, bytes."""

    max_depth: int = 8
    max_entries: int = 1024
    max_bytes: int = 65536

    def __post_init__(self) -> None:
        # Each level is a few Python frames; this keeps every permitted depth far from RecursionError.
        if not 1 <= self.max_depth <= 64:
            raise ValueError(f"max_depth is 1 to 64, not {self.max_depth}")


DEFAULT = Limits()

MAX_SHORT = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_LENGTH = struct.Struct(">I")
_TYPED_LENGTH = struct.Struct(">cI")
_INT32 = struct.Struct(">ci")
_INT64 = struct.Struct(">cq")
_DOUBLE = struct.Struct(">cd")
_STRING, _TABLE, _ARRAY, _BYTES, _VOID = b"SFAxV"

Buffer = bytes | bytearray | memoryview
_Budget = list[int]  # one number, shared by all levels: how many entries may still come
_Value = tuple[Any, int]  # a value, and the offset behind it

# Where a value stands: the name of the table, then keys and indexes. Text is made of it only for an error.
_Path = tuple[str | int, ...]


def _refuse(path: _Path, why: str) -> UnsupportedValue:
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]
    return UnsupportedValue(f"{where}: {why}")


def _utf8(text: str, path: _Path) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _refuse(path, "a str with a lone surrogate has no UTF-8") from None


def encode_shortstr(text: str, name: str = "text") -> bytes:
    """Encode a short string: one byte of length, then UTF-8 (AMQP 0-9-1 section 4.2.5.3).

    :raises UnsupportedValue: more than 255 bytes, or no UTF-8; the text begins with ``name``.
    """
    data = _utf8(text, (name,))
    if len(data) > MAX_SHORT:
        raise UnsupportedValue(f"{name}: at most {MAX_SHORT} bytes fit a short string, not {len(data)}")
    return bytes((len(data),)) + data


def encode_table(table: Mapping[str, object], limits: Limits = DEFAULT, *, name: str = "headers") -> bytes:
    """Encode a field table with its length (AMQP 0-9-1 section 4.2.5.5, RabbitMQ errata).

    :raises UnsupportedValue: a key or value that AMQP cannot carry, or nesting deeper than
        ``limits.max_depth``; the text begins with its path, as in ``headers.a.b[2]``.
    """
    return _encode_table(table, (name,), limits.max_depth)


def _encode_table(table: Mapping[str, object], path: _Path, depth: int) -> bytes:
    parts: list[bytes] = []
    for key, value in table.items():
        if not isinstance(key, str):
            raise _refuse(path, f"a key is text, not {type(key).__name__}")
        name = _utf8(key, path)
        # The specification says 128; RabbitMQ takes whatever the byte of length can say.
        if not 0 < len(name) <= MAX_SHORT:
            raise _refuse(path, f"a key has 1 to {MAX_SHORT} bytes of UTF-8, not {len(name)}")
        parts += bytes((len(name),)), name, _encode_value(value, (*path, key), depth)
    body = b"".join(parts)
    return _LENGTH.pack(len(body)) + body


def _encode_value(value: object, path: _Path, depth: int) -> bytes:
    if isinstance(value, str):
        data = _utf8(value, path)
        return _TYPED_LENGTH.pack(b"S", len(data)) + data
    if isinstance(value, bool):  # before int, of which it is one
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return _INT32.pack(b"I", value)
        if -(2**63) <= value < 2**63:
            return _INT64.pack(b"l", value)
        raise _refuse(path, "an int beyond 64 bits")
    if isinstance(value, float):
        return _DOUBLE.pack(b"d", value)
    if value is None:
        return b"V"
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        return _TYPED_LENGTH.pack(b"x", len(data)) + data
    if isinstance(value, datetime):
        return _encode_time(value, path)
    if isinstance(value, Decimal):
        return _encode_decimal(value, path)
    if isinstance(value, (Mapping, list, tuple)):
        if depth <= 1:
            raise _refuse(path, f"a {type(value).__name__} nested too deep")
        if isinstance(value, Mapping):
            return b"F" + _encode_table(value, path, depth - 1)
        body = b"".join([_encode_value(item, (*path, index), depth - 1) for index, item in enumerate(value)])
        return _TYPED_LENGTH.pack(b"A", len(body)) + body
    raise _refuse(path, f"a {type(value).__name__} cannot be carried")


def _encode_time(value: datetime, path: _Path) -> bytes:
    if value.utcoffset() is None:
        raise _refuse(path, "a datetime without time zone")
    # Exact, where timestamp() rounds the last microseconds of a far year up to the next second.
    seconds = (value - _EPOCH) // _SECOND
    if seconds < 0:
        raise _refuse(path, "a datetime before 1970")
    return struct.pack(">cQ", b"T", seconds)


def _encode_decimal(value: Decimal, path: _Path) -> bytes:
    negative, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise _refuse(path, f"a Decimal that is no number: {value}")
    # No int32 has more than 10 digits; looking at their count first keeps int() from enormous ones.
    if len(digits) <= 10 and exponent >= -255 and (exponent < 10 or digits == (0,)):
        number = int("".join(map(str, digits))) * 10 ** min(max(exponent, 0), 10)
        if negative:
            number = -number
        if -(2**31) <= number < 2**31:
            return struct.pack(">cBi", b"D", max(-exponent, 0), number)
    raise _refuse(path, "a Decimal that does not fit 32 bits and 255 places")


def decode_table(data: Buffer, offset: int, limits: Limits = DEFAULT) -> tuple[dict[str, Any], int]:
    """Decode the table that begins at ``offset``; also the offset behind it (section 4.2.5.5, errata).

    Of a key that stands twice the last value counts. Long strings that are not UTF-8 stay bytes,
    timestamps beyond year 9999 stay ints, and keys that are not UTF-8 get replacement characters.

    :raises LimitExceeded: more than ``limits`` allows.
    :raises MalformedData: truncated or ill-formed. Nothing else is raised.
    """
    start = offset + 4
    if offset < 0 or start > len(data):
        raise MalformedData("a table without its length")
    size = _LENGTH.unpack_from(data, offset)[0]
    if size > limits.max_bytes:
        raise LimitExceeded(f"a table of {size} bytes; at most {limits.max_bytes} are read")
    end = start + size
    if end > len(data):
        raise MalformedData("a truncated table")
    budget = [limits.max_entries]
    try:
        if isinstance(data, bytes):
            return _decode_table(data, start, end, limits.max_depth, budget), end
        return _decode_table(bytes(data[start:end]), 0, size, limits.max_depth, budget), end
    except struct.error:
        raise MalformedData("a truncated table") from None


def _decode_table(data: bytes, offset: int, end: int, depth: int, budget: _Budget) -> dict[str, Any]:
    table: dict[str, Any] = {}
    length_at = _LENGTH.unpack_from
    left = budget[0]
    while offset < end:
        left -= 1
        if left < 0:
            raise LimitExceeded("a table with too many entries")
        start = offset + 1
        offset = start + data[offset]
        if offset >= end:
            raise MalformedData("a key that runs out of its table")
        try:
            key = data[start:offset].decode()  # in CPython much faster than with an error handler
        except UnicodeDecodeError:
            key = data[start:offset].decode(errors="replace")
        kind = data[offset]
        offset += 1
        if kind == _STRING:  # here and not in _decode_value, for nearly every header is one
            start = offset + 4
            offset = start + length_at(data, offset)[0]
            if offset > end:
                raise MalformedData("a string that runs out of its table")
            try:
                table[key] = data[start:offset].decode()
            except UnicodeDecodeError:
                table[key] = data[start:offset]
        else:
            budget[0] = left
            table[key], offset = _decode_value(kind, data, offset, end, depth, budget)
            left = budget[0]
    budget[0] = left
    return table


def _decode_array(data: bytes, offset: int, end: int, depth: int, budget: _Budget) -> list[Any]:
    items: list[Any] = []
    while offset < end:
        budget[0] -= 1
        if budget[0] < 0:
            raise LimitExceeded("an array with too many entries")
        item, offset = _decode_value(data[offset], data, offset + 1, end, depth, budget)
        items.append(item)
    return items


def _decode_value(kind: int, data: bytes, offset: int, end: int, depth: int, budget: _Budget) -> _Value:
    fixed = _FIXED.get(kind)
    if fixed is not None:
        layout, make = fixed
        stop = offset + layout.size
        if stop > end:
            raise MalformedData("a value that runs out of its table")
        values = layout.unpack_from(data, offset)
        return (values[0] if make is None else make(*values)), stop
    if kind == _VOID:
        return None, offset
    if kind not in (_STRING, _TABLE, _ARRAY, _BYTES):
        raise MalformedData(f"unknown field type {kind}")
    start = offset + 4
    stop = start + _LENGTH.unpack_from(data, offset)[0]
    if stop > end:
        raise MalformedData("a value that runs out of its table")
    if kind == _STRING:
        return _text(data[start:stop]), stop
    if kind == _BYTES:
        return data[start:stop], stop
    if depth <= 1:
        raise LimitExceeded("tables or arrays nested too deep")
    if kind == _TABLE:
        return _decode_table(data, start, stop, depth - 1, budget), stop
    return _decode_array(data, start, stop, depth - 1, budget), stop


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _time(seconds: int) -> datetime | int:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return seconds


# The types of fixed size. Both l and L are signed, as in the broker; s is 16 bits and no short string.
_NUMBERS = dict(zip("tbBsuIilLfd", "?bBhHiIqqfd", strict=True))  # letter to its layout in module struct
_FIXED: dict[int, tuple[struct.Struct, Callable[..., Any] | None]] = {
    **{ord(letter): (struct.Struct(f">{layout}"), None) for letter, layout in _NUMBERS.items()},
    ord("T"): (struct.Struct(">Q"), _time),
    # From text it is exact; arithmetic would round to the precision of the caller's decimal context.
    ord("D"): (struct.Struct(">Bi"), lambda scale, number: Decimal(f"{number}E-{scale}")),
}
