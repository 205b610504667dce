"""Messages: events encoded for the wire, as transports carry them, in CloudEvents 1.0 terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

HeaderValue = Any
"""Text, bytes, bool, int, float, None, datetime, Decimal, and lists and dicts of these."""

MAX_TOPIC_BYTES = 255
"""A routing key is an AMQP short string (AMQP 0-9-1 section 4.2.5.3)."""

NO_HEADERS: Mapping[str, HeaderValue] = {}


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event, request or reply encoded for the wire.

    ``id``, ``type``, ``source``, ``time``, ``subject`` and ``dataschema`` are the CloudEvents 1.0
    attributes; ``type`` is empty when a foreign client sent none. ``time`` is Unix seconds (0 when
    unknown), ``ttl`` seconds; ``deliver_at`` is when the broker shall hand it to its queues, in Unix seconds (None:
    now). ``headers`` are the application's own; the transport adds what its protocol needs for the attributes and takes
    it away again on the other side.
    """

    exchange: str
    topic: str
    body: bytes
    id: str
    type: str
    source: str = ""
    time: float = 0.0
    subject: str | None = None
    dataschema: str | None = None
    content_type: str = "application/json"
    content_encoding: str | None = None
    headers: Mapping[str, HeaderValue] = NO_HEADERS
    correlation_id: str | None = None
    reply_to: str | None = None
    priority: int | None = None
    ttl: float | None = None
    persistent: bool = True
    user_id: str | None = None
    deliver_at: float | None = None


class Incoming(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One arrival of a message at a consumer, as a transport hands it to the bus.

    ``attempt`` counts from 1 and includes arrivals that ended without a settlement where the broker
    counts them; ``first_seen`` is when the first attempt failed, in Unix seconds. ``token`` belongs to the
    transport: it says which arrival is settled. ``problem`` is set when the transport could not read the message
    within its limits; such a message is dead-lettered as it stands, without a copy.
    """

    message: Message
    consumer: str
    queue: str
    attempt: int = 1
    redelivered: bool = False
    first_seen: float | None = None
    token: Any = None
    problem: str | None = None
