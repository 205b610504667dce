"""Dead-lettering: the headers that RabbitMQ writes when it moves a message to a dead-letter queue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from eventbus.transport import Message

DEATHS = "x-death"
EXPIRED, REJECTED, MAXLEN, DELIVERY_LIMIT = "expired", "rejected", "maxlen", "delivery_limit"


def dead_lettered(message: Message, queue: str, reason: str, exchange: str, topic: str | None) -> Message:
    """The message as it goes to the dead-letter exchange: ``x-death`` tells of this death first.

    A death in the same queue for the same reason is counted in one table. The message's own time to
    live is taken off, as it would delete the evidence, and noted
    (https://www.rabbitmq.com/docs/dlx#effects).
    """
    deaths = _deaths(message)
    earlier = next((d for d in deaths if d.get("queue") == queue and d.get("reason") == reason), None)
    if earlier is not None:
        death = {**earlier, "count": earlier.get("count", 0) + 1}
    else:
        death = {
            "count": 1,
            "reason": reason,
            "queue": queue,
            "time": datetime.now(UTC).replace(microsecond=0),
            "exchange": message.exchange,
            "routing-keys": [message.topic],
        }
        if message.ttl is not None:
            death["original-expiration"] = str(round(message.ttl * 1000))
    headers = {
        **message.headers,
        DEATHS: [death, *(d for d in deaths if d is not earlier)],
    }
    headers.setdefault("x-first-death-reason", reason)
    headers.setdefault("x-first-death-queue", queue)
    headers.setdefault("x-first-death-exchange", message.exchange)
    return msgspec.structs.replace(
        message, exchange=exchange, topic=message.topic if topic is None else topic, headers=headers, ttl=None
    )


def goes_in_circles(message: Message, queue: str) -> bool:
    """Whether a dead-lettered message has died in this queue before, and nobody rejected it since.

    RabbitMQ drops it then: nothing but the broker moves it, and it would go round for ever
    (https://www.rabbitmq.com/docs/dlx#routing).
    """
    deaths = _deaths(message)
    for position, death in enumerate(deaths):
        if death.get("queue") == queue:
            return all(death.get("reason") != REJECTED for death in deaths[: position + 1])
    return False


def _deaths(message: Message) -> list[dict[str, Any]]:
    """The tables of ``x-death``; publishers can write that header too, so anything may be there."""
    deaths = message.headers.get(DEATHS)
    if not isinstance(deaths, list):
        return []
    return [d for d in deaths if isinstance(d, dict) and isinstance(d.get("count", 0), int)]
