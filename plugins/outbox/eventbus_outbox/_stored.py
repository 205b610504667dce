"""What a row holds: a message with what its publishing needs, as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from eventbus import DecodingError, EncodingError, Exchange, Message

# Extension types of MessagePack, for values that it has not: without them they would come back as text.
_DECIMAL = 1
_NAIVE_DATETIME = 2


class Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row's content: MessagePack of this, with field names, so that fields may come and go between versions.

    ``exchange`` is declared by the relay before it publishes: its bus may know nothing of the event's class.
    """

    message: Message
    exchange: Exchange | None = None
    mandatory: bool | None = None


def encode(stored: Stored) -> bytes:
    """The bytes of a row. :raises EncodingError: a header's value is not one that can be stored."""
    try:
        return _encoder.encode(_storable(stored))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodingError(f"the message cannot be stored: {error}") from error


def decode(body: bytes) -> Stored:
    """What a row holds. :raises DecodingError: no version of ours has written it."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, ArithmeticError, ValueError) as error:
        raise DecodingError(f"the stored message cannot be read: {error}") from error


def _storable(stored: Stored) -> Stored:
    message = stored.message
    if message.headers:
        message = msgspec.structs.replace(message, headers=_marked(message.headers))
    exchange = stored.exchange
    if exchange is not None and exchange.arguments:
        exchange = msgspec.structs.replace(exchange, arguments=_marked(exchange.arguments))
    return Stored(message=message, exchange=exchange, mandatory=stored.mandatory)


def _marked(value: Any) -> Any:
    """The value with what MessagePack has no type for made into extensions."""
    if isinstance(value, Mapping):
        return {name: _marked(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_marked(each) for each in value]
    if isinstance(value, Decimal):
        return msgspec.msgpack.Ext(_DECIMAL, str(value).encode())
    if isinstance(value, datetime) and value.tzinfo is None:
        return msgspec.msgpack.Ext(_NAIVE_DATETIME, value.isoformat().encode())
    return value


def _unmarked(code: int, data: memoryview) -> Any:
    text = bytes(data).decode()
    if code == _DECIMAL:
        return Decimal(text)
    if code == _NAIVE_DATETIME:
        return datetime.fromisoformat(text)
    raise ValueError(f"unknown extension {code}")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Stored, ext_hook=_unmarked)
