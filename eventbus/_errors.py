"""Every error that eventbus raises, in one tree, split by what the caller can do about it.

::

    EventBusError
    ├── ConfigurationError          mend the code, the URL or the installation
    │   ├── UnknownTransport        no installed transport has this URL scheme
    │   ├── CertificateError        a certificate, key or CA of ours cannot be used
    │   └── TopologyMismatch        the broker has this queue or exchange with other properties
    ├── ConnectionFailed            the broker cannot be reached, or was lost (retried by itself)
    │   ├── LoginRefused            user, password or virtual host refused (terminal)
    │   └── TLSNotVerified          the peer's certificate or ours was refused (terminal at first)
    ├── AccessRefused               the broker user lacks a permission
    ├── PublishError                one publish did not end in a confirm
    │   ├── NotSent                 nothing left this process: safe to publish again
    │   │   ├── EncodingError       the event does not fit its class, its topic or the wire
    │   │   ├── MessageTooLarge     body, headers or topic above the limit
    │   │   ├── ExchangeMissing     the exchange does not exist
    │   │   └── BusClosed           the bus is stopping or has stopped
    │   ├── Unroutable              no queue took it: nobody is subscribed
    │   ├── Rejected                the broker refused it (full queue, missing permission)
    │   └── PublishUnknown          deadline or connection passed after bytes may have left
    ├── DecodingError               a body that does not fit the event it claims to be
    └── RequestError                one request did not end in a reply
        ├── NoResponder             nobody answers this request
        ├── RequestTimeout          no reply in time; the responder may have run
        ├── RequestLost             the connection went while waiting; the responder may have run
        └── RemoteError             the responder failed: its error's type name and text, as data

Four further exceptions are raised *by handlers* to choose an outcome and are no errors of ours:
:class:`RetryLater`, :class:`Reject`, :class:`AlreadyHandled` and :class:`BatchError`.

Driver exceptions never escape; they are the ``__cause__``. No text here carries a password.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class EventBusError(Exception):
    """Base of everything that eventbus raises."""


class ConfigurationError(EventBusError):
    """Something that only a change of code, URL or installation mends."""


class UnknownTransport(ConfigurationError):
    """No installed distribution provides a transport for this URL scheme."""


class CertificateError(ConfigurationError):
    """A certificate, key or CA that we were given cannot be used; found before anything was sent."""


class TopologyMismatch(ConfigurationError):
    """The broker has a queue or exchange of this name with other properties than we need."""


class ConnectionFailed(EventBusError):
    """The broker cannot be reached, or the connection was lost."""


class LoginRefused(ConnectionFailed):
    """The broker refused user, password or virtual host. Not retried for ever."""


class TLSNotVerified(ConnectionFailed):
    """A certificate was refused, by us or by the broker.

    Final at the first connect; a bus that was connected before goes on trying, for certificates are replaced.
    """


class AccessRefused(EventBusError):
    """The broker user lacks a permission (configure, write or read)."""


class PublishError(EventBusError):
    """One publish that did not end in a confirm. ``outcome`` is its one-word name."""

    outcome = "failed"


class NotSent(PublishError):
    """Nothing left this process, so publishing again cannot make a duplicate."""

    outcome = "not_sent"


class EncodingError(NotSent):
    """The event could not be encoded, or its topic could not be built from its fields."""


class MessageTooLarge(NotSent):
    """Body, headers or topic are above the limit."""


class ExchangeMissing(NotSent):
    """The exchange does not exist on the broker."""


class BusClosed(NotSent):
    """The bus is stopping or has stopped."""


class Unroutable(PublishError):
    """The broker has no queue for this message: nobody is subscribed."""

    outcome = "unroutable"


class Rejected(PublishError):
    """The broker refused the message: it is not in all the queues that it was meant for."""

    outcome = "rejected"


class PublishUnknown(PublishError):
    """Bytes may have left, and no confirm came: the message may or may not have been taken."""

    outcome = "unknown"


class PublishManyError(EventBusError):
    """Some messages of a ``publish_many`` failed.

    ``failures`` holds ``(position, event, error)`` for each of them, by position in the iterable;
    ``confirmed`` counts those that the broker confirmed.
    """

    def __init__(self, confirmed: int, failures: Sequence[tuple[int, Any, PublishError]]) -> None:
        first = failures[0]
        super().__init__(
            f"{len(failures)} of {confirmed + len(failures)} messages failed; "
            f"the first, at position {first[0]}: {type(first[2]).__name__}: {first[2]}"
        )
        self.confirmed = confirmed
        self.failures = tuple(failures)


class DecodingError(EventBusError):
    """A body or header that does not fit; ``field`` is the path of the field, where it is known."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class RequestError(EventBusError):
    """One request that did not end in a reply."""


class NoResponder(RequestError):
    """Nobody answers this request: no responder is connected."""


class RequestTimeout(RequestError):
    """No reply came in time. The responder may have run."""


class RequestLost(RequestError):
    """The connection was lost while the reply was awaited. The responder may have run."""


class RemoteError(RequestError):
    """The responder failed. ``type_name`` and ``message`` are data from the other side.

    Nothing is imported or rebuilt by name from a message (compare CVE-2021-23727).
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(f"{type_name}: {message}")
        self.type_name = type_name
        self.message = message


class RetryLater(Exception):
    """Raised by a handler: handle this delivery again, no sooner than ``delay`` seconds from now.

    Counts as an attempt. ``delay=None`` leaves the delay to the subscription's policy.
    """

    def __init__(self, delay: float | None = None, reason: str = "") -> None:
        super().__init__(reason or "retry later")
        if delay is not None and not 0 <= delay <= 30 * 86400:
            raise ValueError("delay is seconds from 0 to 30 days")
        self.delay = delay
        self.reason = reason


class Reject(Exception):
    """Raised by a handler: never try this delivery again; dead-letter it with ``reason``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AlreadyHandled(Exception):
    """Raised by a handler, a dependency or a middleware: what this message asks for has been done before.

    The delivery is acked; raised before the handler, the handler is not run. A request is acked without an answer. For
    what remembers message ids, as the inbox of ``eventbus-inbox`` does.
    """


class BatchError(Exception):
    """Raised by the handler of a batch: some of its events have failed, the others are done.

    :param failures: the error of each event that failed, by its place in the list that the handler got, from 0. It is
        tried again, or dead-lettered, as if its handler alone had raised that error.
    """

    def __init__(self, failures: Mapping[int, BaseException]) -> None:
        self.failures = dict(failures)
        some = ", ".join(f"{index}: {type(error).__name__}" for index, error in sorted(self.failures.items())[:5])
        more = "" if len(self.failures) <= 5 else ", ..."
        super().__init__(f"{len(self.failures)} of a batch failed ({some}{more})")
