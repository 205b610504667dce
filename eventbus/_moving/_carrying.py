"""What is sent for a message that is moved, and what becomes of it after each outcome: decided over values.

A message goes to its queue by name, as the copies of retries do (:func:`eventbus.transport.retry_copy`): its headers
tell exchange, topic, attempt and first failure, and the arrival at the destination puts them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from eventbus._dead_letters._reading import read_dead_letter
from eventbus._dead_letters._values import DeadLetterQueue
from eventbus._errors import (
    AccessRefused,
    EncodingError,
    ExchangeMissing,
    MessageTooLarge,
    NotSent,
    PublishError,
    Unroutable,
)
from eventbus._message import HeaderValue, Incoming, Message
from eventbus._moving._values import Place
from eventbus._schedule import LONGEST
from eventbus._settlement import (
    ATTEMPT,
    DEAD_ATTEMPTS,
    DEAD_QUEUE,
    DEAD_REASON,
    DEAD_TIME,
    EXCHANGE,
    FIRST_SEEN,
    MAX_ATTEMPT,
    TOPIC,
    restore_origin,
)

DUE, REST = "eventbus-deliver-at", "eventbus-wait-rest"
"""Headers by which the RabbitMQ transport remembers that a message has still to wait."""

_BROKERS_OWN = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")

Fate = Literal["again", "marked", "left", "end"]


class Carried(msgspec.Struct, frozen=True):
    """A message to be sent; ``marked``: its handler sees that it may have come before."""

    message: Message
    marked: bool


def carry(incoming: Incoming, place: Place, *, sent: bool, now: float) -> Carried:
    """What to send for a message of this place. ``sent``: it may have been sent before, without a confirm.

    A message that was never handed out arrives as its first attempt, with the same id. One that may have been handled,
    or moved, arrives as a later attempt: so none is handled twice without a mark.
    """
    again = sent or incoming.redelivered
    if place.kind == "dead":
        return Carried(_dead(incoming, place, again), again)
    if place.kind == "scheduled":
        return Carried(_scheduled(incoming, again, now), again)
    origin = restore_origin(incoming.message)
    message = origin.message
    attempt = max(origin.attempt + incoming.attempt - 1, 2 if again else 1)
    seen = origin.first_seen if origin.first_seen is not None else incoming.first_seen
    headers = _plain(message.headers)
    headers |= {ATTEMPT: min(attempt, MAX_ATTEMPT), EXCHANGE: message.exchange, TOPIC: message.topic}
    if seen is not None:
        headers[FIRST_SEEN] = int(seen)
    due = message.deliver_at if message.deliver_at is not None else _rest(message.headers)
    copy = msgspec.structs.replace(
        message, exchange="", topic=place.name, headers=headers, deliver_at=_future(due, now)
    )
    return Carried(copy, attempt > 1)


def _dead(incoming: Incoming, place: Place, again: bool) -> Message:
    message = incoming.message
    headers = _plain(message.headers)
    dead = read_dead_letter(incoming, DeadLetterQueue(place.name, place.sources))
    if dead.by_broker:  # what the broker knows is in headers of its own, which no copy has
        headers |= {DEAD_REASON: dead.reason, DEAD_QUEUE: dead.queue, EXCHANGE: dead.exchange, TOPIC: dead.topic}
        numbers = {DEAD_ATTEMPTS: dead.attempts, DEAD_TIME: int(dead.died or 0)}
        headers |= {name: number for name, number in numbers.items() if number}
    if again:
        headers[ATTEMPT] = 2
    return msgspec.structs.replace(message, exchange="", topic=place.name, headers=headers, ttl=None, deliver_at=None)


def _scheduled(incoming: Incoming, again: bool, now: float) -> Message:
    message = incoming.message
    headers = dict(message.headers)
    if again:
        headers |= {ATTEMPT: 2, EXCHANGE: message.exchange, TOPIC: message.topic}
    return msgspec.structs.replace(message, headers=headers, deliver_at=_future(message.deliver_at, now))


def _plain(headers: Mapping[str, HeaderValue]) -> dict[str, HeaderValue]:
    return {k: v for k, v in headers.items() if k not in (DUE, REST) and not k.startswith(_BROKERS_OWN)}


def _rest(headers: Mapping[str, HeaderValue]) -> float | None:
    due, rest = headers.get(DUE), headers.get(REST)
    return due if isinstance(due, float) and isinstance(rest, float) and rest > 0 else None


def _future(due: float | None, now: float) -> float | None:
    return min(due, now + LONGEST) if due is not None and due > now else None


def fate_of(error: PublishError, place: Place) -> Fate:
    """What becomes of a message whose publish failed: sent again, again with a mark, left; or the whole move ends."""
    if isinstance(error.__cause__, AccessRefused):
        return "end"
    if isinstance(error, Unroutable):
        # Of a queue that is gone nothing can be moved; that nobody subscribes to an event is no reason to stop.
        return "left" if place.kind == "scheduled" else "end"
    if isinstance(error, ExchangeMissing):
        return "end"
    if isinstance(error, (MessageTooLarge, EncodingError)):
        return "left"
    return "again" if isinstance(error, NotSent) else "marked"
