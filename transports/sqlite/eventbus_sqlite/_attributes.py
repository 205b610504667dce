"""A message's attributes as one value of a column: all but its body, in MessagePack.

Header values keep their types: what MessagePack has no word for is an extension of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from eventbus._errors import EncodingError
from eventbus.transport import Message

_DECIMAL, _NAIVE = 1, 2
_PLAIN = frozenset({str, int, float, bool, type(None), bytes})
_FIELDS = tuple(field for field in Message.__struct_fields__ if field != "body")

_encoder = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """The attributes. :raises EncodingError: a header cannot be stored."""
    headers = message.headers
    try:
        if headers:
            headers = {name: _portable(value) for name, value in headers.items()}
        return _encoder.encode(
            (
                message.exchange,
                message.topic,
                message.id,
                message.type,
                message.source,
                message.time,
                message.subject,
                message.dataschema,
                message.content_type,
                message.content_encoding,
                headers,
                message.correlation_id,
                message.reply_to,
                message.priority,
                message.ttl,
                message.persistent,
                message.user_id,
                message.deliver_at,
            )
        )
    except (TypeError, OverflowError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise EncodingError(f"a header cannot be stored: {error}") from error


def decode(attributes: bytes, body: bytes) -> Message:
    """The message again. :raises msgspec.MsgspecError: these are no attributes."""
    return Message(body=body, **dict(zip(_FIELDS, _decoder.decode(attributes), strict=True)))


def decode_anyway(attributes: bytes, body: bytes) -> tuple[Message, str | None]:
    """The message again, and None; or its body alone and what is wrong, if a damaged disk has changed the rest."""
    try:
        return decode(attributes, body), None
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:  # of MessagePack, of dates, of decimals
        return Message(exchange="", topic="", id="", type="", body=body), f"the file is damaged: {error}"


def encode_value(value: Any) -> bytes:
    """Arguments and properties, for columns of their own."""
    return _encoder.encode(_portable(value))


def decode_value(encoded: bytes) -> Any:
    """What :func:`encode_value` was given."""
    return _decoder_of_anything.decode(encoded)


def _portable(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, Decimal):
        return msgspec.msgpack.Ext(_DECIMAL, str(value).encode())
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else msgspec.msgpack.Ext(_NAIVE, value.isoformat().encode())
    if isinstance(value, Mapping):
        return {name: _portable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(item) for item in value]
    return value


def _extension(code: int, data: memoryview) -> Any:
    text = bytes(data).decode()
    return Decimal(text) if code == _DECIMAL else datetime.fromisoformat(text)


# With types, so that what a damaged disk has changed is found here and not where it is used.
_TYPES = tuple(field.type for field in msgspec.structs.fields(Message) if field.name != "body")
_decoder = msgspec.msgpack.Decoder(tuple[_TYPES], ext_hook=_extension)  # type: ignore[valid-type]
_decoder_of_anything = msgspec.msgpack.Decoder(ext_hook=_extension)

assert _FIELDS == (
    "exchange", "topic", "id", "type", "source", "time", "subject", "dataschema", "content_type", "content_encoding",
    "headers", "correlation_id", "reply_to", "priority", "ttl", "persistent", "user_id", "deliver_at",
), "the stored order of attributes is part of the schema"  # fmt: skip
