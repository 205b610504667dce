"""Settlements: what becomes of a delivery, decided by plain functions over values."""

from __future__ import annotations

import hashlib
import random
import re
import time
import traceback
from collections.abc import Mapping

import msgspec

from eventbus._backoff import Backoff, exponential
from eventbus._errors import DecodingError, Reject, RetryLater
from eventbus._message import HeaderValue, Incoming, Message

ATTEMPT = "eventbus-attempt"
FIRST_SEEN = "eventbus-first-seen"
EXCHANGE = "eventbus-exchange"
TOPIC = "eventbus-topic"
DEAD_REASON = "eventbus-dead-reason"
DEAD_ERROR_TYPE = "eventbus-dead-error-type"
DEAD_ERROR = "eventbus-dead-error"
DEAD_DIGEST = "eventbus-dead-digest"
DEAD_QUEUE = "eventbus-dead-queue"
DEAD_ATTEMPTS = "eventbus-dead-attempts"
DEAD_TIME = "eventbus-dead-time"

MAX_ERROR_TEXT = 1024
MAX_ATTEMPT = 1_000_000
DIGEST_PLACES = 20


class Ack(msgspec.Struct, frozen=True):
    """Handled: the broker forgets the message."""


class Requeue(msgspec.Struct, frozen=True):
    """Not handled, and no fault of the message: back to its queue, for any consumer of the group."""


class RetryIn(msgspec.Struct, frozen=True):
    """Failed: the same queue gets it again after ``delay`` seconds, as one attempt more."""

    delay: float = 0.0


class DeadLetter(msgspec.Struct, frozen=True):
    """Given up: to the queue's dead-letter queue, with the reason.

    ``digest`` names the kind of failure (:func:`digest_of`). ``verbatim`` leaves the move to the broker: the message
    could not be read, so no copy is made.
    """

    reason: str
    error_type: str = ""
    error: str = ""
    digest: str = ""
    verbatim: bool = False


Settlement = Ack | Requeue | RetryIn | DeadLetter

ACK = Ack()
REQUEUE = Requeue()


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how soon a failed delivery is tried again; the first attempt counts.

    ``backoff`` says how long to wait in between (:func:`eventbus.exponential`, :func:`eventbus.fixed`; None: not at
    all). Only exceptions of the types ``on`` are worth another attempt, and those of ``give_up_on`` never are. A
    handler that raises RetryLater chooses its own pause.
    """

    attempts: int = 5
    backoff: Backoff | None = exponential()
    on: tuple[type[BaseException], ...] = (BaseException,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("Retry wants attempts >= 1; the first one counts")

    def pause(self, attempt: int, luck: float) -> float:
        """Seconds before the attempt after ``attempt``, for a ``luck`` in [0, 1)."""
        return 0.0 if self.backoff is None else self.backoff.pause(attempt, luck)

    def again(self, error: BaseException) -> bool:
        """Whether this error is worth another attempt."""
        return isinstance(error, RetryLater) or (isinstance(error, self.on) and not isinstance(error, self.give_up_on))


def settlement_of(error: BaseException | None, attempt: int, retry: Retry, luck: float | None = None) -> Settlement:
    """What becomes of a delivery whose handler ended with ``error`` (None: it returned)."""
    if error is None:
        return ACK
    if isinstance(error, Reject):
        return dead_letter(error.reason or "rejected by the handler", error)
    if isinstance(error, DecodingError):
        return dead_letter("the body could not be decoded", error)
    if not retry.again(error):
        return dead_letter("the handler failed, and the policy gives up on this error", error)
    if attempt >= retry.attempts:
        return dead_letter(f"the handler failed in all {retry.attempts} attempts", error)
    if isinstance(error, RetryLater) and error.delay is not None:
        return RetryIn(delay=error.delay)
    return RetryIn(delay=retry.pause(attempt, random.random() if luck is None else luck))


def dead_letter(reason: str, error: BaseException) -> DeadLetter:
    """The settlement of a delivery that is given up because of ``error``."""
    name = type(error).__qualname__
    return DeadLetter(reason=reason, error_type=name, error=error_text(error), digest=digest_of(error))


def digest_of(error: BaseException) -> str:
    """Names the kind of a failure: the same for errors of one type from the same place in the code.

    Made of the error's type and of the functions and lines that it passed, and of nothing that varies with the message.
    """
    places = [
        f"{frame.f_globals.get('__name__', '?')}:{frame.f_code.co_qualname}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    found = "\n".join([type(error).__qualname__, *places[-DIGEST_PLACES:]])
    return hashlib.sha256(found.encode(errors="replace")).hexdigest()[:12]


def error_text(error: BaseException) -> str:
    """The error's own text, printable and bounded: it goes into headers and logs."""
    try:
        text = str(error)
    except Exception:  # a broken __str__ must not stop the settlement
        text = "(its text could not be made)"
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)[:MAX_ERROR_TEXT]


def retry_copy(incoming: Incoming) -> Message:
    """The message to put on the delivery's own queue for the next attempt (default exchange)."""
    headers = _with_origin(incoming)
    headers[ATTEMPT] = min(incoming.attempt + 1, MAX_ATTEMPT)
    return msgspec.structs.replace(
        incoming.message, exchange="", topic=incoming.queue, headers=headers, deliver_at=None
    )


def dead_letter_copy(incoming: Incoming, settlement: DeadLetter, queue: str) -> Message:
    """The message to put on the dead-letter ``queue``: original body and headers, and why."""
    headers = _with_origin(incoming)
    headers.update(
        {
            DEAD_REASON: settlement.reason[:MAX_ERROR_TEXT],
            DEAD_ERROR_TYPE: settlement.error_type[:256],
            DEAD_ERROR: settlement.error[:MAX_ERROR_TEXT],
            DEAD_DIGEST: settlement.digest,
            DEAD_QUEUE: incoming.queue,
            DEAD_ATTEMPTS: incoming.attempt,
            DEAD_TIME: int(time.time()),
        }
    )
    # A time to live would delete the evidence.
    return msgspec.structs.replace(
        incoming.message, exchange="", topic=queue, headers=headers, ttl=None, persistent=True, deliver_at=None
    )


class Origin(msgspec.Struct, frozen=True):
    """What a copy was made of: the message as first published, and what has become of it so far."""

    message: Message
    attempt: int = 1
    first_seen: float | None = None


def restore_origin(message: Message) -> Origin:
    """What a copy made by :func:`retry_copy` was made of; any other message is its own origin.

    Headers are written by whoever publishes, so numbers are clamped and names must be text.
    """
    headers = message.headers
    attempt = headers.get(ATTEMPT)
    if attempt is None:
        return Origin(message)
    rest = {k: v for k, v in headers.items() if k not in (ATTEMPT, FIRST_SEEN, EXCHANGE, TOPIC)}
    exchange, topic = headers.get(EXCHANGE), headers.get(TOPIC)
    if isinstance(exchange, str) and isinstance(topic, str):
        message = msgspec.structs.replace(message, exchange=exchange, topic=topic, headers=rest)
    else:
        message = msgspec.structs.replace(message, headers=rest)
    seen = _whole(headers.get(FIRST_SEEN))
    return Origin(
        message,
        max(1, min(_whole(attempt) or 1, MAX_ATTEMPT)),
        # Seen in the future, or before there was any of this: not ours.
        float(seen) if seen is not None and 0 < seen <= time.time() + 86400 else None,
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _with_origin(incoming: Incoming) -> dict[str, HeaderValue]:
    message = incoming.message
    headers: dict[str, HeaderValue] = dict(message.headers) if isinstance(message.headers, Mapping) else {}
    headers.pop(ATTEMPT, None)
    headers[EXCHANGE] = message.exchange
    headers[TOPIC] = message.topic
    headers[FIRST_SEEN] = int(time.time() if incoming.first_seen is None else incoming.first_seen)
    return headers
