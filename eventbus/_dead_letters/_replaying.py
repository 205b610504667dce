"""What is sent to replay a dead letter, and whether it can be sent."""

from __future__ import annotations

import msgspec

from eventbus._dead_letters._values import DeadMessage
from eventbus._message import Message
from eventbus._settlement import ATTEMPT, EXCHANGE, FIRST_SEEN, TOPIC

# Headers of the failure, of waits that are over, and of the broker begin so.
_WRITTEN = (
    "eventbus-dead-", "eventbus-deliver-at", "eventbus-wait-", "x-death", "x-first-death-", "x-last-death-",
    "x-delivery-count",
)  # fmt: skip


def why_not(dead: DeadMessage) -> str | None:
    """What keeps this message from being replayed; None when nothing does."""
    if dead.problem is not None:
        return f"{dead.dead_queue}: a message that cannot be read cannot be copied either ({dead.problem})"
    if not dead.queue:
        return f"{dead.dead_queue}: a message does not say in which queue of this dead-letter queue it failed"
    return None


def replay_copy(dead: DeadMessage) -> Message:
    """The message to put on the queue of the group that failed, by the default exchange, so that no other gets it.

    It has the same id, body and application headers, and begins with its first attempt.
    """
    headers = {
        name: value
        for name, value in dead.message.headers.items()
        if not name.startswith(_WRITTEN) and name not in (FIRST_SEEN, EXCHANGE, TOPIC)
    }
    headers[ATTEMPT] = 1  # marks a copy: its handler is told the exchange and topic of the original
    if dead.exchange or dead.topic:
        headers |= {EXCHANGE: dead.exchange, TOPIC: dead.topic}
    return msgspec.structs.replace(
        dead.message, exchange="", topic=dead.queue, headers=headers, ttl=None, deliver_at=None, persistent=True
    )
