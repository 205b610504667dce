"""Reading content headers that look like one read before.

The headers of one event class differ in a few values of known length: id, time, correlation id, ordering key and its
slot, a request's deadline. AMQP puts the length before every value; so where a header is as long as an earlier one, and
equal to it outside of those values, reading it in full would find the same fields at the same places. That takes a
fifth of the time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from eventbus._cloudevents import parse_time
from eventbus._keys import KEY, SLOT_HEADERS
from eventbus._message import NO_HEADERS, Message
from eventbus._replies import DEADLINE
from eventbus._settlement import ATTEMPT
from eventbus_rabbitmq._mapping import BROKERS_OWN, read_message
from eventbus_rabbitmq._wire.frames import CONTENT_HEAD
from eventbus_rabbitmq._wire.properties import Properties, decode_properties

MOST_SHAPES = 256
MOST_MISSES = 16
"""A length that so many different shapes share is not worth comparing."""

_BODY_SIZE = slice(4, 12)
_NUMBER = struct.Struct(">q")
_DEADLINE_KEY = bytes((len(DEADLINE),)) + DEADLINE.encode()
_ORDERING_KEY = bytes((len(KEY),)) + KEY.encode() + b"S"
_SLOT = SLOT_HEADERS[0][:-1]


class Recognised(msgspec.Struct, frozen=True, gc=False):
    """The values of a header of a known shape."""

    shape: Shape
    id: str
    time: float
    correlation_id: str | None
    varying: Mapping[str, Any]

    def message(self, exchange: str, topic: str, body: bytes) -> Message:
        """The message; the same that reading the header in full gives."""
        known = self.shape.known
        headers: Mapping[str, Any] = known.headers
        if headers or self.varying:
            headers = {**headers, **self.varying}
        return Message(
            exchange=exchange,
            topic=topic,
            body=body,
            id=self.id,
            type=known.type,
            source=known.source,
            time=self.time,
            subject=known.subject,
            dataschema=known.dataschema,
            content_type=known.content_type,
            content_encoding=known.content_encoding,
            headers=headers,
            correlation_id=self.correlation_id,
            reply_to=known.reply_to,
            priority=known.priority,
            ttl=known.ttl,
            persistent=known.persistent,
            user_id=known.user_id,
        )


class Shape:
    """Where the values are that differ, and what stands everywhere else."""

    __slots__ = (
        "_constants",
        "_correlation",
        "_deadline",
        "_id",
        "_key",
        "_message_id",
        "_slot",
        "_time",
        "_varies",
        "known",
    )

    def __init__(self, payload: bytes, known: Message, spans: dict[str, slice]) -> None:
        varying = [name for name in known.headers if name == DEADLINE or ("key" in spans and _is_keys(name))]
        self.known = replace(known, headers={k: v for k, v in known.headers.items() if k not in varying})
        self._key, self._slot = spans.get("key"), spans.get("slot")
        self._varies = bool(varying)
        self._id, self._message_id, self._time = spans["id"], spans["message_id"], spans["time"]
        self._correlation, self._deadline = spans.get("correlation_id"), spans.get("deadline")
        at, constants = 0, []
        for span in [*sorted(spans.values(), key=lambda span: int(span.start)), slice(len(payload), None)]:
            constants.append((slice(at, span.start), payload[at : span.start]))
            at = span.stop
        self._constants = tuple(constants)

    def read(self, payload: bytes) -> Recognised | None:
        """The values, where the rest is the same."""
        for span, constant in self._constants:
            if payload[span] != constant:
                return None
        ident = payload[self._id]
        if payload[self._message_id] != ident:
            return None
        try:
            correlation = self.known.correlation_id
            if self._correlation is not None:
                correlation = payload[self._correlation].decode("ascii")
            time = seconds_of(payload[self._time].decode("ascii"))
            text = ident.decode("ascii")
            varying = self._varying(payload) if self._varies else NO_HEADERS
        except UnicodeDecodeError:
            return None
        if not time:  # no time at all: the timestamp stands in for it
            return None
        return Recognised(self, text, time, correlation, varying)

    def _varying(self, payload: bytes) -> Mapping[str, Any]:
        """The headers whose values differ."""
        found: dict[str, Any] = {}
        if self._deadline is not None:
            found[DEADLINE] = _NUMBER.unpack(payload[self._deadline])[0]
        if self._key is not None:
            found[KEY] = payload[self._key].decode("ascii")
        if self._slot is not None:
            found[_SLOT + payload[self._slot].decode("ascii")] = True
        return found


class HeaderReader:
    """Reads the content headers of one channel."""

    def __init__(self) -> None:
        self._shapes: dict[int, Shape] = {}
        self._misses: dict[int, int] = {}

    def __call__(self, payload: bytes) -> Properties | Recognised:
        """What a content header says. :raises WireError: it cannot be read."""
        shape = self._shapes.get(len(payload))
        if shape is not None:
            recognised = shape.read(payload)
            if recognised is not None:
                return recognised
        properties, _ = decode_properties(payload, CONTENT_HEAD.size)
        self._learn(payload, properties)
        return properties

    def _learn(self, payload: bytes, properties: Properties) -> None:
        length = len(payload)
        misses = self._misses.get(length, 0)
        if misses >= MOST_MISSES or (length not in self._misses and len(self._misses) >= MOST_SHAPES):
            self._shapes.pop(length, None)
            return
        self._misses[length] = misses + 1
        shape = shape_of(payload, properties)
        if shape is not None:
            self._shapes[length] = shape


def shape_of(payload: bytes, properties: Properties) -> Shape | None:
    """The shape of a header; None where it is not one of ours, or a value's place is not plain."""
    headers = properties.headers or {}
    ident, time = headers.get("ce-id"), headers.get("ce-time")
    if not (isinstance(ident, str) and isinstance(time, str) and ident == properties.message_id and ident.isascii()):
        return None
    if ATTEMPT in headers or not BROKERS_OWN.isdisjoint(headers):
        return None
    if any(isinstance(value, (list, dict)) for value in headers.values()):  # each handler is to have its own
        return None
    known = read_message("", "", properties, b"")
    try:
        in_table = _after(payload, b"\x05ce-idS" + len(ident).to_bytes(4), len(ident))
        short = bytes((len(ident),)) + ident.encode()
        if payload.count(short) != 2:  # in the table, where the length's last byte is the same, and by itself
            return None
        by_itself = payload.index(short, in_table.stop) + 1
        spans = {
            "body_size": _BODY_SIZE,
            "id": in_table,
            "time": _after(payload, b"\x07ce-timeS" + len(time).to_bytes(4), len(time)),
            "message_id": slice(by_itself, by_itself + len(ident)),
        }
        if properties.timestamp is not None:  # follows the message id at once
            spans["timestamp"] = slice(by_itself + len(ident), by_itself + len(ident) + 8)
        if properties.correlation_id:
            correlation = bytes((len(properties.correlation_id.encode()),)) + properties.correlation_id.encode()
            at = _after(payload, correlation, 0).start
            spans["correlation_id"] = slice(at - len(correlation) + 1, at)
        if DEADLINE in headers:
            spans["deadline"] = _after(payload, _DEADLINE_KEY + b"l", 8)
        spans.update(_spans_of_key(payload, headers))
    except ValueError:
        return None
    return Shape(payload, known, spans)


def _is_keys(name: str) -> bool:
    """Whether a header belongs to the ordering key."""
    return name == KEY or name.startswith(_SLOT)


def _spans_of_key(payload: bytes, headers: Mapping[str, Any]) -> dict[str, slice]:
    """Where the ordering key is, and the number of its slot, as we write them; nothing where others did."""
    key, slots = headers.get(KEY), [name for name in headers if name.startswith(_SLOT)]
    if not isinstance(key, str) or not key.isascii() or len(slots) > 1 or any(headers[s] is not True for s in slots):
        return {}
    spans = {"key": _after(payload, _ORDERING_KEY + len(key).to_bytes(4), len(key))}
    for name in slots:
        whole = _after(payload, bytes((len(name),)) + name.encode() + b"t\x01", 0).start - 2
        spans["slot"] = slice(whole - len(name) + len(_SLOT), whole)
    return spans


def _after(payload: bytes, pattern: bytes, length: int) -> slice:
    """So many bytes behind a pattern that stands there once. :raises ValueError: it does not."""
    if payload.count(pattern) != 1:
        raise ValueError(pattern)
    at = payload.index(pattern) + len(pattern)
    return slice(at, at + length)


_second = ("", 0.0)
"""The last second that was read: most messages come in the same one."""


def seconds_of(text: str) -> float:
    """Unix seconds of an RFC 3339 time; quickly for the form that we write, ``2026-11-23T12:00:00.123456Z``."""
    global _second
    if len(text) != 27 or text[19] != "." or text[26] != "Z" or not text[20:26].isdigit():
        return parse_time(text)
    known, seconds = _second
    if text[:19] != known:
        seconds = parse_time(text[:19] + "Z")
        if not seconds:
            return parse_time(text)
        _second = (text[:19], seconds)
    return seconds + int(text[20:26]) / 1_000_000
