"""The properties of a content header: fourteen optional fields behind a word of flags.

Source: AMQP 0-9-1 sections 4.2.6.1 (content header) and 1.8 (class basic).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import msgspec

from eventbus_rabbitmq._wire.tables import (
    DEFAULT,
    Buffer,
    Limits,
    MalformedData,
    UnsupportedValue,
    decode_table,
    encode_shortstr,
    encode_table,
)


class Properties(msgspec.Struct, frozen=True, kw_only=True):
    """Basic-class properties; ``timestamp`` is Unix seconds, ``expiration`` text of milliseconds."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


# The kinds of field; all but these three are short strings.
_TEXT, _TABLE, _OCTET, _TIME = range(4)
_KINDS = {"headers": _TABLE, "delivery_mode": _OCTET, "priority": _OCTET, "timestamp": _TIME}

# Name, flag and kind in the order of the wire, which is that of Properties; the first has the highest bit.
_NAMES = Properties.__struct_fields__
_FIELDS: tuple[tuple[str, int, int], ...] = tuple(
    (name, 0x8000 >> place, _KINDS.get(name, _TEXT)) for place, name in enumerate(_NAMES)
)
_CONTINUED = 1  # another word of flags follows; class basic never needs one
_FLAGS = struct.Struct(">H")
_SECONDS = struct.Struct(">Q")


def encode_properties(properties: Properties) -> bytes:
    """Encode flags and values, as they stand behind the body size (AMQP 0-9-1 section 4.2.6.1).

    :raises UnsupportedValue: a value that does not fit its field; the text begins with its name.
    """
    flags = 0
    parts: list[bytes] = [b""]
    for name, flag, kind in _FIELDS:
        value = getattr(properties, name)
        if value is None:
            continue
        flags |= flag
        if kind == _TEXT:
            parts.append(encode_shortstr(value, name))
        elif kind == _TABLE:
            parts.append(encode_table(value))
        elif kind == _OCTET:
            if not 0 <= value <= 255:
                raise UnsupportedValue(f"{name}: 0 to 255, not {value}")
            parts.append(bytes((value,)))
        else:
            if not 0 <= value < 2**64:
                raise UnsupportedValue(f"{name}: seconds since 1970 in 64 bits, not {value}")
            parts.append(_SECONDS.pack(value))
    parts[0] = _FLAGS.pack(flags)
    return b"".join(parts)


# Most messages of a queue have the same few sets of properties; the bound keeps a hostile peer's sets few.
@lru_cache(maxsize=256)
def _fields_of(flags: int) -> tuple[tuple[str, int], ...]:
    return tuple((name, kind) for name, flag, kind in _FIELDS if flags & flag)


def decode_properties(data: Buffer, offset: int = 0, limits: Limits = DEFAULT) -> tuple[Properties, int]:
    """Decode the properties at ``offset``; also the offset behind them (AMQP 0-9-1 section 4.2.6.1).

    The one unused flag (bit 1) is ignored, as the broker ignores it when it accepts the message.

    :raises LimitExceeded: headers with more than ``limits`` allows.
    :raises MalformedData: truncated or ill-formed. Nothing else is raised.
    """
    if not isinstance(data, bytes):
        data = bytes(data)
    if offset < 0:
        raise MalformedData("properties before the data")
    found: dict[str, Any] = {}
    try:
        flags = _FLAGS.unpack_from(data, offset)[0]
        if flags & _CONTINUED:
            raise MalformedData("property flags beyond those of class basic")
        offset += 2
        for name, kind in _fields_of(flags):
            if kind == _TEXT:
                start = offset + 1
                offset = start + data[offset]
                try:
                    found[name] = data[start:offset].decode()
                except UnicodeDecodeError:
                    # A foreign client's slip, which must not cost the message.
                    found[name] = data[start:offset].decode(errors="replace")
            elif kind == _TABLE:
                found[name], offset = decode_table(data, offset, limits)
            elif kind == _OCTET:
                found[name] = data[offset]
                offset += 1
            else:
                found[name] = _SECONDS.unpack_from(data, offset)[0]
                offset += 8
    except (struct.error, IndexError):
        raise MalformedData("truncated properties") from None
    # Only a string can run past the end unseen, for a slice stops there; whatever follows it then raises.
    if offset > len(data):
        raise MalformedData("truncated properties")
    return Properties(**found), offset
