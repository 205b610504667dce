"""Where messages wait: queues with a time to live, which hand on what has waited long enough.

RabbitMQ without plugins delays by dead-lettering what has expired (https://www.rabbitmq.com/docs/dlx). Only the head of
a queue expires, so a short wait must never stand behind a long one: there is one wait queue for each step of a ladder.
A wait between two steps takes several: first the longest step that fits, then the rest, which its consumer adds.
"""

from __future__ import annotations

from typing import Any

import msgspec

from eventbus._message import Incoming, Message
from eventbus._schedule import LONGEST
from eventbus._settlement import ATTEMPT, EXCHANGE, FIRST_SEEN, TOPIC
from eventbus_rabbitmq._options import QueueType

DELAYS = (
    0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600,
    2 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400,
)  # fmt: skip

DELIVER_AT = "eventbus-deliver-at"
REST = "eventbus-wait-rest"

LATE_SECONDS, LATE_SHARE = 0.25, 0.02
EARLY_SECONDS = 0.05


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """A wait of ``seconds`` in the queue ``name``: then on to the exchange ``to``, with its topic or ``topic``."""

    name: str
    seconds: float
    to: str
    topic: str | None = None
    like: QueueType | None = None


def delay_step(seconds: float) -> float:
    """The next step of the ladder that is no shorter."""
    return next((step for step in DELAYS if step >= seconds), DELAYS[-1])


def split(seconds: float) -> tuple[float, float]:
    """A wait as its first step and the rest: one step alone, if it is late by a little at most."""
    step = delay_step(seconds)
    if 0 <= step - seconds <= max(LATE_SECONDS, LATE_SHARE * seconds) or seconds < DELAYS[0]:
        return step, 0.0
    step = max(one for one in DELAYS if one <= seconds)
    return step, seconds - step


def wait_queue_name(queue: str, seconds: float) -> str:
    """Where copies wait ``seconds`` before they go back to ``queue``."""
    return f"{queue}.wait.{round(seconds * 1000)}"


def delay_name(service: str, exchange: str, seconds: float) -> str:
    """Where what a service publishes to ``exchange`` waits ``seconds``: an exchange, and the queue behind it."""
    return f"{service}.delay.{exchange or 'default'}.{round(seconds * 1000)}"


def scheduled(message: Message, service: str, exchange: str, now: float) -> tuple[Message, Wait | None]:
    """The message as it is sent, and the wait before it is delivered."""
    if message.deliver_at is None or message.deliver_at <= now:
        return message, None
    step, rest = split(message.deliver_at - now)
    wait = Wait(name=delay_name(service, exchange, step), seconds=step, to=exchange)
    return msgspec.structs.replace(message, headers={**message.headers, **_plan(message.deliver_at, rest)}), wait


def arrived(message: Message, now: float) -> tuple[Message, float]:
    """The message without the plan of its waits, and the seconds that it has still to wait.

    The rest is never more than what the publisher planned, so that a clock that is wrong can only shorten it.
    """
    due, rest = message.headers.get(DELIVER_AT), message.headers.get(REST)
    headers = {k: v for k, v in message.headers.items() if k not in (DELIVER_AT, REST)}
    if not isinstance(due, float):
        return msgspec.structs.replace(message, headers=headers), 0.0
    left = min(rest, due - now, LONGEST) if isinstance(rest, float) else 0.0
    return msgspec.structs.replace(message, headers=headers, deliver_at=due), left if left > EARLY_SECONDS else 0.0


def held_copy(incoming: Incoming, rest: float) -> Message:
    """The message to put on the delivery's own queue, to be handled after the wait as if it had come then."""
    message = incoming.message
    assert message.deliver_at is not None
    headers: dict[str, Any] = {
        **message.headers,
        **_plan(message.deliver_at, rest),
        EXCHANGE: message.exchange,
        TOPIC: message.topic,
        ATTEMPT: incoming.attempt,
    }
    if incoming.first_seen is not None:
        headers[FIRST_SEEN] = int(incoming.first_seen)
    return msgspec.structs.replace(message, exchange="", topic=incoming.queue, headers=headers, deliver_at=None)


def _plan(due: float, rest: float) -> dict[str, float]:
    return {DELIVER_AT: float(due), REST: float(rest)}
