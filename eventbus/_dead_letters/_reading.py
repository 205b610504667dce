"""What is known of a dead letter, read from its headers.

Two writers are believed: this library, which puts a copy into the dead-letter queue and says why
(:func:`eventbus.transport.dead_letter_copy`), and the broker, which moves the message itself and adds ``x-death``
(https://www.rabbitmq.com/docs/dlx#effects). A publisher can write such headers too, so everything may be there. The
broker's word goes first, as it stands before what a publisher wrote, and our copies are made without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from eventbus._cloudevents import STRUCTURED, unwrap
from eventbus._dead_letters._values import DeadLetterQueue, DeadMessage
from eventbus._errors import DecodingError
from eventbus._message import Incoming, Message
from eventbus._settlement import (
    ATTEMPT,
    DEAD_ATTEMPTS,
    DEAD_DIGEST,
    DEAD_ERROR,
    DEAD_ERROR_TYPE,
    DEAD_QUEUE,
    DEAD_REASON,
    DEAD_TIME,
    EXCHANGE,
    FIRST_SEEN,
    MAX_ATTEMPT,
    TOPIC,
)

DEATHS = "x-death"

MAX_TEXT = 4096
MAX_TIME = 253_402_300_799  # the last second that a date can have

BROKERS_WORDS = {
    "delivery_limit": "handed out too often without being settled",
    "expired": "nobody handled it before its time to live ended",
    "maxlen": "the queue was full",
    "rejected": "the consumer could not take it",
}


def read_dead_letter(incoming: Incoming, place: DeadLetterQueue) -> DeadMessage:
    """What is known of a message that lies in a dead-letter queue."""
    message = incoming.message
    death = _death(message.headers, place)
    found = _by_broker(message, death) if death is not None else _by_us(message)
    queue = found.pop("queue")
    if not queue and len(place.sources) == 1:
        queue = place.sources[0]
    shown = _unwrapped(message)
    return DeadMessage(
        id=shown.id or f"body-{hashlib.sha256(message.body).hexdigest()[:16]}",
        type=shown.type,
        source=shown.source,
        published=shown.time,
        queue=queue if place.takes(queue) else "",
        dead_queue=place.name,
        problem=incoming.problem,
        message=message,
        **found,
    )


def _by_us(message: Message) -> dict[str, Any]:
    headers = message.headers
    known = isinstance(headers.get(DEAD_REASON), str)
    return {
        "queue": _text(headers, DEAD_QUEUE),
        "exchange": _text(headers, EXCHANGE) if known else message.exchange,
        "topic": _text(headers, TOPIC) if known else message.topic,
        "reason": _text(headers, DEAD_REASON) if known else "not known",
        "error_type": _text(headers, DEAD_ERROR_TYPE),
        "error": _text(headers, DEAD_ERROR),
        "digest": _text(headers, DEAD_DIGEST),
        "attempts": _number(headers, DEAD_ATTEMPTS),
        "first_seen": _time(headers.get(FIRST_SEEN)),
        "died": _time(headers.get(DEAD_TIME)),
    }


def _by_broker(message: Message, death: Mapping[str, Any]) -> dict[str, Any]:
    headers = message.headers
    word = _text(death, "reason")
    keys = death.get("routing-keys")
    exchange, topic = _text(death, "exchange"), str(keys[0])[:MAX_TEXT] if isinstance(keys, list) and keys else ""
    if ATTEMPT in headers:  # a copy for a retry, which says where the original went
        exchange, topic = _text(headers, EXCHANGE), _text(headers, TOPIC)
    return {
        "queue": _text(death, "queue"),
        "exchange": exchange,
        "topic": topic,
        "reason": f"{word}: {BROKERS_WORDS[word]}" if word in BROKERS_WORDS else word,
        "attempts": _number(headers, ATTEMPT),
        "first_seen": _time(headers.get(FIRST_SEEN)),
        "died": _time(death.get("time")),
        "by_broker": True,
    }


def _death(headers: Mapping[str, Any], place: DeadLetterQueue) -> Mapping[str, Any] | None:
    """The newest death in a queue whose dead letters lie here; the broker puts the newest one first."""
    deaths = headers.get(DEATHS)
    for death in deaths if isinstance(deaths, list) else ():
        if isinstance(death, Mapping) and (queue := _text(death, "queue")) and place.takes(queue):
            return death
    return None


def _unwrapped(message: Message) -> Message:
    """A structured CloudEvent taken apart; anything else as it is."""
    if not message.content_type.startswith(STRUCTURED):
        return message
    try:
        return unwrap(message)
    except DecodingError:
        return message


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _number(found: Mapping[str, Any], name: str) -> int | None:
    value = found.get(name)
    return min(value, MAX_ATTEMPT) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _time(value: object) -> float | None:
    if isinstance(value, datetime):
        value = value.timestamp()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_TIME:
        return None
    return float(value)
