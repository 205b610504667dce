"""Request/reply, without I/O: who waits for which correlation id, and what a reply says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from eventbus._errors import DecodingError, RemoteError, RequestLost
from eventbus._message import HeaderValue, Message
from eventbus._settlement import error_text

DEADLINE = "eventbus-deadline"
REPLY_STATUS = "eventbus-reply"
OK, FAILED = "ok", "error"
DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"
REPLY_ADDRESSES = ("amq.gen-", DIRECT_REPLY_TO + ".")

MAX_TYPE_NAME = 256

Waiter = Callable[[Message | Exception], bool]
"""Gets a reply or the error that ends the wait; True when it wants no more."""


class PendingReplies:
    """The correlation map of one bus. Every waiter ends exactly once, unless it asks for more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[str, Waiter] = {}
        self.unmatched = 0
        """Replies that nobody waits for: late, duplicate or forged. Dropped."""

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, correlation_id: str, waiter: Waiter) -> None:
        """Expect replies for this id."""
        with self._lock:
            self._waiters[correlation_id] = waiter

    def discard(self, correlation_id: str) -> None:
        """Expect no more; a reply that comes now is late."""
        with self._lock:
            self._waiters.pop(correlation_id, None)

    def resolve(self, message: Message) -> None:
        """Hand a reply to its waiter."""
        waiter = self._waiters.get(message.correlation_id or "")
        if waiter is None:
            self.unmatched += 1
            return
        if waiter(message):
            self.discard(message.correlation_id or "")

    def fail(self, correlation_id: str, error: Exception) -> None:
        """End one wait."""
        with self._lock:
            waiter = self._waiters.pop(correlation_id, None)
        if waiter is not None:
            waiter(error)

    def fail_all(self, error: Exception) -> None:
        """End all waits: their replies cannot come any more."""
        with self._lock:
            waiters, self._waiters = list(self._waiters.values()), {}
        for waiter in waiters:
            waiter(error)


def replies_lost() -> RequestLost:
    """How requests end whose replies cannot come any more."""
    return RequestLost("the connection was lost while the reply was awaited; the responder may have run")


def deadline_headers(timeout: float) -> dict[str, HeaderValue]:
    """Headers by which a responder knows when the requester gives up (Unix milliseconds)."""
    return {DEADLINE: int((time.time() + timeout) * 1000)}


def is_expired(message: Message) -> bool:
    """Whether the requester has given up already. Clocks of the two machines are compared."""
    deadline = message.headers.get(DEADLINE)
    return isinstance(deadline, int) and not isinstance(deadline, bool) and time.time() * 1000 > deadline


def reply_allowed(address: str, allowed: tuple[str, ...]) -> bool:
    """Whether a responder may answer to this address: it is written by the requester, and names any queue."""
    return address.startswith(allowed)


def reply_message(request: Message, body: bytes, *, type: str, source: str, id: str) -> Message:
    """The reply to a request: transient, straight to the requester's queue."""
    return _reply(request, body, type=type, source=source, id=id, status=OK)


def failure_message(request: Message, error: BaseException, *, source: str, id: str) -> Message:
    """The reply that tells of a failed responder: type name and text, no traceback."""
    name = type(error).__qualname__[:MAX_TYPE_NAME]
    body = orjson.dumps({"type": name, "message": error_text(error)})
    return _reply(request, body, type="eventbus.error", source=source, id=id, status=FAILED)


def _reply(request: Message, body: bytes, *, type: str, source: str, id: str, status: str) -> Message:
    assert request.reply_to is not None
    return Message(
        exchange="",
        topic=request.reply_to,
        body=body,
        id=id,
        type=type,
        source=source,
        time=time.time(),
        headers={REPLY_STATUS: status},
        correlation_id=request.correlation_id,
        persistent=False,
    )


class _RemoteFailure(msgspec.Struct):
    type: str = "Error"
    message: str = ""


_decode_failure = msgspec.json.Decoder(_RemoteFailure).decode


def read_reply(message: Message, decode: Callable[[bytes], Any]) -> Any:
    """The answer in a reply.

    :raises RemoteError: the responder failed.
    :raises DecodingError: the answer does not fit the expected type.
    """
    if message.headers.get(REPLY_STATUS) == FAILED:
        try:
            failure = _decode_failure(message.body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise DecodingError("a responder's error could not be decoded") from None
        raise RemoteError(failure.type[:MAX_TYPE_NAME], failure.message)
    return decode(message.body)
