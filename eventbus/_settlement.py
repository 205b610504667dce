"""Settlements: what becomes of a delivery, decided by plain functions over values."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping

import msgspec

from eventbus._errors import DecodingError, Reject, RetryLater
from eventbus._message import HeaderValue, Incoming, Message

ATTEMPT = "eventbus-attempt"
EXCHANGE = "eventbus-exchange"
TOPIC = "eventbus-topic"
DEAD_REASON = "eventbus-dead-reason"
DEAD_ERROR_TYPE = "eventbus-dead-error-type"
DEAD_ERROR = "eventbus-dead-error"
DEAD_QUEUE = "eventbus-dead-queue"
DEAD_ATTEMPTS = "eventbus-dead-attempts"
DEAD_TIME = "eventbus-dead-time"

MAX_ERROR_TEXT = 1024
MAX_ATTEMPT = 1_000_000


class Ack(msgspec.Struct, frozen=True):
    """Handled: the broker forgets the message."""


class Requeue(msgspec.Struct, frozen=True):
    """Not handled, and no fault of the message: back to its queue, for any consumer of the group."""


class RetryIn(msgspec.Struct, frozen=True):
    """Failed: the same queue gets it again after ``delay`` seconds, as one attempt more."""

    delay: float = 0.0


class DeadLetter(msgspec.Struct, frozen=True):
    """Given up: to the queue's dead-letter queue, with the reason.

    ``verbatim`` leaves the move to the broker: the message could not be read, so no copy is made.
    """

    reason: str
    error_type: str = ""
    error: str = ""
    verbatim: bool = False


Settlement = Ack | Requeue | RetryIn | DeadLetter

ACK = Ack()
REQUEUE = Requeue()


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how soon a failed delivery is tried again.

    ``attempts`` counts the first one too. The pause before attempt *n* + 1 is drawn between half of
    and the whole ``delay * factor ** (n - 1)`` seconds, at most ``maximum``; ``delay=0`` retries at once.
    ``give_up_on`` are exception types that are dead-lettered without another attempt.
    """

    attempts: int = 5
    delay: float = 0.0
    factor: float = 2.0
    maximum: float = 300.0
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.delay < 0 or self.factor < 1 or self.maximum < 0:
            raise ValueError("Retry wants attempts >= 1, delay >= 0, factor >= 1 and maximum >= 0")

    def pause(self, attempt: int, jitter: float) -> float:
        """Seconds before the attempt after ``attempt``, for a ``jitter`` in [0, 1)."""
        if not self.delay:
            return 0.0
        whole: float = min(self.maximum, self.delay * self.factor ** min(attempt - 1, 64))
        return whole * (0.5 + jitter / 2)


def settlement_of(error: BaseException | None, attempt: int, retry: Retry, jitter: float | None = None) -> Settlement:
    """What becomes of a delivery whose handler ended with ``error`` (None: it returned)."""
    if error is None:
        return ACK
    name, text = type(error).__qualname__, error_text(error)
    if isinstance(error, Reject):
        return DeadLetter(reason=error.reason or "rejected by the handler", error_type=name, error=text)
    if isinstance(error, DecodingError):
        return DeadLetter(reason="the body could not be decoded", error_type=name, error=text)
    if retry.give_up_on and isinstance(error, retry.give_up_on):
        return DeadLetter(
            reason="the handler failed, and the policy gives up on this error", error_type=name, error=text
        )
    if attempt >= retry.attempts:
        return DeadLetter(reason=f"the handler failed in all {retry.attempts} attempts", error_type=name, error=text)
    if isinstance(error, RetryLater) and error.delay is not None:
        return RetryIn(delay=error.delay)
    return RetryIn(delay=retry.pause(attempt, random.random() if jitter is None else jitter))


def error_text(error: BaseException) -> str:
    """The error's own text, printable and bounded: it goes into headers and logs."""
    try:
        text = str(error)
    except Exception:  # a broken __str__ must not stop the settlement
        text = "(its text could not be made)"
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)[:MAX_ERROR_TEXT]


def retry_copy(incoming: Incoming) -> Message:
    """The message to put on the delivery's own queue for the next attempt (default exchange)."""
    message = incoming.message
    headers = _with_origin(message)
    headers[ATTEMPT] = min(incoming.attempt + 1, MAX_ATTEMPT)
    return msgspec.structs.replace(message, exchange="", topic=incoming.queue, headers=headers)


def dead_letter_copy(incoming: Incoming, settlement: DeadLetter, queue: str) -> Message:
    """The message to put on the dead-letter ``queue``: original body and headers, and why."""
    message = incoming.message
    headers = _with_origin(message)
    headers.pop(ATTEMPT, None)
    headers.update(
        {
            DEAD_REASON: settlement.reason[:MAX_ERROR_TEXT],
            DEAD_ERROR_TYPE: settlement.error_type[:256],
            DEAD_ERROR: settlement.error[:MAX_ERROR_TEXT],
            DEAD_QUEUE: incoming.queue,
            DEAD_ATTEMPTS: incoming.attempt,
            DEAD_TIME: int(time.time()),
        }
    )
    # A time to live would delete the evidence.
    return msgspec.structs.replace(message, exchange="", topic=queue, headers=headers, ttl=None, persistent=True)


def restore_origin(message: Message) -> tuple[Message, int]:
    """The message as first published, and its attempt number, from a copy made by :func:`retry_copy`.

    Headers are written by whoever publishes, so the attempt is clamped and origins must be text.
    """
    headers = message.headers
    attempt = headers.get(ATTEMPT)
    if attempt is None:
        return message, 1
    rest = {k: v for k, v in headers.items() if k not in (ATTEMPT, EXCHANGE, TOPIC)}
    exchange, topic = headers.get(EXCHANGE), headers.get(TOPIC)
    if isinstance(exchange, str) and isinstance(topic, str):
        message = msgspec.structs.replace(message, exchange=exchange, topic=topic, headers=rest)
    else:
        message = msgspec.structs.replace(message, headers=rest)
    valid = isinstance(attempt, int) and not isinstance(attempt, bool)
    return message, max(1, min(attempt, MAX_ATTEMPT)) if valid else 1


def _with_origin(message: Message) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = dict(message.headers) if isinstance(message.headers, Mapping) else {}
    headers[EXCHANGE] = message.exchange
    headers[TOPIC] = message.topic
    return headers
