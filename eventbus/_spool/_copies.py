"""What lies in a spool: copies of events that are put back as they were, markers, and notices about these."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from eventbus._ids import uuid7
from eventbus._message import Message
from eventbus._topology import Exchange

HEADER = "eventbus-spool"
MARKER = "eventbus.spool.marker"
NOTICE = "eventbus.spool.notice"


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a copy in the spool says of its event, beside body, headers and attributes, which it has as they are.

    ``bus`` and ``number`` name this copy: the bus that made it, and its place among those of that bus. ``at`` is when
    the event was published, in Unix seconds. ``exchange`` is all that is known of it, so that a process that has never
    published there can declare it.
    """

    bus: str
    number: int
    at: float
    exchange: str | Exchange
    topic: str
    ttl: float | None = None
    priority: int | None = None
    deliver_at: float | None = None
    user_id: str | None = None
    persistent: bool = True
    mandatory: bool = False


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """Asks whoever drains the spool to tell ``bus`` at ``address`` when everything before it has been sent."""

    bus: str
    marker: int
    address: str = ""


def pack(message: Message, kept: Kept, queue: str) -> Message:
    """The copy of an event for the spool's ``queue``: nothing in there may expire, wait or overtake by itself."""
    return msgspec.structs.replace(
        message,
        exchange="",
        topic=queue,
        headers={**message.headers, HEADER: msgspec.to_builtins(kept)},
        ttl=None,
        priority=None,
        deliver_at=None,
        user_id=None,
        persistent=True,
    )


def unpack(message: Message) -> Kept | Marker | None:
    """What a message in the spool is; None for what no spool has put there."""
    said = message.headers.get(HEADER) if isinstance(message.headers, Mapping) else None
    try:
        return msgspec.convert(said, Marker) if message.type == MARKER else msgspec.convert(said, Kept)
    except msgspec.ValidationError:
        return None


def restore(message: Message, kept: Kept, now: float) -> Message | None:
    """The event as it was published, with the rest of its time to live at ``now``; None when that is over."""
    ttl = kept.ttl
    if ttl is not None:
        # It counts from when the event would have been in its queues. A clock that was put back makes nobody younger.
        ttl -= max(0.0, now - max(kept.at, kept.deliver_at or 0.0))
        if ttl <= 0:
            return None
    return msgspec.structs.replace(
        message,
        exchange=kept.exchange if isinstance(kept.exchange, str) else kept.exchange.name,
        topic=kept.topic,
        headers={name: value for name, value in message.headers.items() if name != HEADER},
        ttl=ttl,
        priority=kept.priority,
        deliver_at=kept.deliver_at,
        user_id=kept.user_id,
        persistent=kept.persistent,
    )


def marker_message(marker: Marker, queue: str) -> Message:
    """The marker for the spool's ``queue``."""
    return _small(MARKER, queue, marker)


def notice_message(marker: Marker) -> Message:
    """Tells a marker's bus that everything before it has been sent."""
    return _small(NOTICE, marker.address, marker)


def read_notice(message: Message) -> Marker | None:
    """The marker that a notice is about; None for what is no notice."""
    said = message.headers.get(HEADER) if isinstance(message.headers, Mapping) else None
    try:
        return msgspec.convert(said, Marker)
    except msgspec.ValidationError:
        return None


def _small(type: str, queue: str, marker: Marker) -> Message:
    return Message(
        exchange="",
        topic=queue,
        body=b"{}",
        id=uuid7(),
        type=type,
        source=marker.bus,
        headers={HEADER: msgspec.to_builtins(marker)},
        persistent=False,
    )
