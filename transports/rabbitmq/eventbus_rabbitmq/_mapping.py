"""Messages to AMQP properties and back: CloudEvents 1.0 in binary mode.

Attributes go into headers with the prefix ``ce-``, as the RabbitMQ binding of the ``cloudevents`` package has it, and
into the native properties beside. ``cloudEvents:`` and ``cloudEvents_`` (the AMQP 1.0 binding) are read as well.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from eventbus._cloudevents import parse_time
from eventbus._ids import uuid7
from eventbus._message import Message
from eventbus_rabbitmq._wire.properties import Properties
from eventbus_rabbitmq._wire.tables import encode_shortstr, encode_table

_PREFIXES = ("ce-", "cloudEvents:", "cloudEvents_")
_LONG = struct.Struct(">I")
_TIME = struct.Struct(">Q")
_CONTENT = struct.Struct(">HHQH")
_CLASS_BASIC = 60

_ID_BYTES, _STAMP_BYTES = 36, 27
_ID_KEY = b"\x05ce-idS" + _LONG.pack(_ID_BYTES)
_TIME_KEY = b"\x07ce-timeS" + _LONG.pack(_STAMP_BYTES)

# Written by brokers about a message's past; they would be wrong on a copy.
BROKERS_OWN = frozenset(
    {
        "x-death",
        "x-delivery-count",
        "x-first-death-exchange",
        "x-first-death-queue",
        "x-first-death-reason",
        "x-last-death-exchange",
        "x-last-death-queue",
        "x-last-death-reason",
    }
)

_MAX_SHAPES = 4096


class _Shape:
    """What all messages alike in everything but id, time, headers and body have in common."""

    __slots__ = ("after_headers", "before_headers", "expiration", "flags", "head", "last", "table", "tail")

    def __init__(self, message: Message) -> None:
        # Always there: content type, headers, delivery mode, message id, timestamp.
        self.flags = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 7 | 1 << 6
        self.before_headers = encode_shortstr(message.content_type)
        if message.content_encoding:
            self.flags |= 1 << 14
            self.before_headers += encode_shortstr(message.content_encoding)
        table: dict[str, Any] = {"ce-specversion": "1.0"}
        if message.type:
            table["ce-type"] = message.type
        if message.source:
            table["ce-source"] = message.source
        if message.subject is not None:
            table["ce-subject"] = message.subject
        if message.dataschema is not None:
            table["ce-dataschema"] = message.dataschema
        # A message that came without CloudEvents attributes goes on (as a copy) without them.
        self.table = encode_table(table)[4:] if message.type and message.source else b""
        self.after_headers = b"\x02" if message.persistent else b"\x01"
        if message.priority is not None:
            self.flags |= 1 << 11
            self.after_headers += bytes((min(max(message.priority, 0), 255),))
        self.expiration = b""
        if message.ttl is not None:
            self.flags |= 1 << 8
            self.expiration = encode_shortstr(str(max(0, round(message.ttl * 1000))))
        self.last = b""
        if message.type:
            self.flags |= 1 << 5
            self.last += encode_shortstr(message.type[:255] if message.type.isascii() else message.type[:60])
        if message.source:
            self.flags |= 1 << 3
            self.last += encode_shortstr(message.source[:255] if message.source.isascii() else message.source[:60])

        # The same, put together for a message of an id like ours and without headers of its own: most are.
        size = len(self.table) + len(_ID_KEY) + _ID_BYTES + len(_TIME_KEY) + _STAMP_BYTES
        self.head = self.before_headers + _LONG.pack(size) + self.table + _ID_KEY if self.table else b""
        self.tail = self.after_headers + self.expiration + bytes((_ID_BYTES,))


class HeaderEncoder:
    """Makes content headers; keeps the constant parts of recurring shapes."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[Any, ...], _Shape] = {}

    def encode(self, message: Message) -> bytes:
        """The payload of the content header frame.

        :raises UnsupportedValue: (a ValueError) a header that AMQP cannot carry.
        """
        key = (
            message.type, message.source, message.subject, message.content_type, message.content_encoding,
            message.persistent, message.priority, message.ttl, message.dataschema,
        )  # fmt: skip
        shape = self._shapes.get(key)
        if shape is None:
            shape = _Shape(message)
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            self._shapes[key] = shape
        ident = message.id.encode()
        stamp, seconds = _stamped(message.time)
        plain = not message.headers and message.correlation_id is None and message.reply_to is None
        if plain and shape.head and len(ident) == _ID_BYTES:
            start = _CONTENT.pack(_CLASS_BASIC, 0, len(message.body), shape.flags)
            return b"".join((start, shape.head, ident, _TIME_KEY, stamp, shape.tail, ident, seconds, shape.last))
        table = shape.table
        if table:
            table = b"".join((table, _ID_KEY[:-4], _LONG.pack(len(ident)), ident, _TIME_KEY, stamp))
        if message.headers:
            own = {k: v for k, v in message.headers.items() if k not in BROKERS_OWN}
            table += encode_table(own)[4:]
        flags = shape.flags
        addressing = b""
        if message.correlation_id is not None:
            flags |= 1 << 10
            addressing = encode_shortstr(message.correlation_id)
        if message.reply_to is not None:
            flags |= 1 << 9
            addressing += encode_shortstr(message.reply_to)
        return b"".join(
            (
                _CONTENT.pack(_CLASS_BASIC, 0, len(message.body), flags),
                shape.before_headers,
                _LONG.pack(len(table)),
                table,
                shape.after_headers,
                addressing,
                shape.expiration,
                encode_shortstr(message.id),
                seconds,
                shape.last,
            )
        )


_second = (-1, b"", b"")
"""The last second that was written, as text and packed: most messages come in the same one."""


def _stamped(seconds: float) -> tuple[bytes, bytes]:
    """Unix seconds as RFC 3339 text in UTC, and as an AMQP timestamp."""
    global _second
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    known, text, packed = _second
    if known != whole:
        text = datetime.fromtimestamp(whole, UTC).isoformat()[:-6].encode()
        packed = _TIME.pack(max(0, whole))
        _second = (whole, text, packed)
    return b"%s.%06dZ" % (text, micros), packed


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 text in UTC."""
    return _stamped(seconds)[0].decode()


def read_message(
    exchange: str, topic: str, properties: Properties, body: bytes, *, make_id: Callable[[], str] = uuid7
) -> Message:
    """The message that a delivery carries; attributes are taken out of its headers, and a missing id is made."""
    headers: dict[str, Any] = dict(properties.headers) if properties.headers else {}
    prefix = next((p for p in _PREFIXES if p + "type" in headers), None)
    found: dict[str, Any] = {}
    if prefix is not None:
        found = {k[len(prefix) :]: headers.pop(k) for k in list(headers) if k.startswith(prefix)}
    time = parse_time(found.get("time")) or float(properties.timestamp or 0)
    return Message(
        exchange=exchange,
        topic=topic,
        body=body,
        id=_text(found, "id") or properties.message_id or make_id(),
        type=_text(found, "type") or properties.type or "",
        # Only a CloudEvent has a source; by its absence the bus knows a foreign client's message.
        source=_text(found, "source") or "",
        time=time,
        subject=_text(found, "subject"),
        dataschema=_text(found, "dataschema"),
        content_type=properties.content_type or _text(found, "datacontenttype") or "application/json",
        content_encoding=properties.content_encoding,
        headers=headers,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        priority=properties.priority,
        ttl=_ttl(properties.expiration),
        persistent=properties.delivery_mode == 2,
        user_id=properties.user_id,
    )


def _text(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) else None


def _ttl(expiration: str | None) -> float | None:
    if expiration is None or not expiration.isdecimal() or len(expiration) > 12:
        return None
    return int(expiration) / 1000


def without_brokers_own(message: Message) -> Message:
    """The message without what brokers wrote about its past."""
    headers = {k: v for k, v in message.headers.items() if k not in BROKERS_OWN}
    return msgspec.structs.replace(message, headers=headers)
