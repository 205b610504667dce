"""What a delivery is, and what has become of its message before: decided over values."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from eventbus._ids import uuid7
from eventbus._message import Message
from eventbus._settlement import restore_origin
from eventbus_rabbitmq._mapping import read_message, without_brokers_own
from eventbus_rabbitmq._recognising import Recognised
from eventbus_rabbitmq._waiting import DELIVER_AT
from eventbus_rabbitmq._waiting import arrived as delayed
from eventbus_rabbitmq._wire.properties import Properties


class Arrived(msgspec.Struct, frozen=True):
    """A message that came, the number of its attempt, when the first one failed, and seconds that it came too early."""

    message: Message
    attempt: int
    first_seen: float | None = None
    early: float = 0.0


def arrived(
    exchange: str, topic: str, properties: Properties | Recognised, body: bytes, redelivered: bool, *, inspect: bool
) -> Arrived:
    """The message of a delivery. With ``inspect`` it is left as it lies in the queue."""
    if isinstance(properties, Recognised):
        return Arrived(properties.message(exchange, topic, body), 2 if redelivered else 1)
    # Who looks at a message could not ask for it again by an id that was made for this delivery.
    message = read_message(exchange, topic, properties, body, make_id=str if inspect else uuid7)
    crashes = _crashes(message.headers.get("x-delivery-count"), redelivered)
    if inspect:
        return Arrived(message, 1 + crashes)
    origin, early = restore_origin(message), 0.0
    if origin.message is not message:
        message = without_brokers_own(origin.message)  # what the wait queue wrote is no part of the original
    if DELIVER_AT in message.headers:
        message, early = delayed(without_brokers_own(message), time.time())
    return Arrived(message, origin.attempt + crashes, origin.first_seen, early)


def _crashes(count: Any, redelivered: bool) -> int:
    """Earlier arrivals without a settlement: counted by quorum queues, and by others known only to have been."""
    if isinstance(count, int) and not isinstance(count, bool):
        return max(0, min(count, 1_000_000))
    return 1 if redelivered else 0
