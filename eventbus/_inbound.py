"""What a bus does with an arrival, without doing it: which event it is, and what its outcome means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from eventbus._cloudevents import STRUCTURED, unwrap
from eventbus._codecs import Codecs
from eventbus._errors import AlreadyHandled, DecodingError, Reject, RetryLater
from eventbus._message import Incoming, Message
from eventbus._replies import is_expired
from eventbus._routing import topic_matches
from eventbus._settlement import ACK, DeadLetter, Settlement, settlement_of
from eventbus._subscription import Subscription

Decode = Callable[[bytes], Any]


class Expired(Exception):
    """The requester has given up: the request is not run."""


class Ignored(Exception):
    """A type that the subscription does not take, and was told to ignore."""


NOTHING_TO_DO = (Expired, Ignored, AlreadyHandled)
"""How a delivery ends whose handler is not to run: it is acked, and a request is not answered."""


class Reader:
    """Turns the messages of one subscription into objects."""

    def __init__(self, subscription: Subscription, codecs: Codecs) -> None:
        self._subscription = subscription
        self._codecs = codecs
        self._by_type = {spec.type: spec.cls for spec in subscription.events}
        self._only = subscription.events[0].cls if len(subscription.events) == 1 else None
        self._decoders: dict[tuple[str, Any], Decode] = {}
        self._by_topic: dict[str, list[Any]] = {}
        # Type and content type of messages that only need decoding: nearly all of them.
        self._quick: dict[tuple[str, str], Decode] = {}
        for cls in self._by_type.values() or (subscription.raw,):
            self._decoder("application/json", cls)  # a class that cannot be decoded is an error now, not later

    def read(self, incoming: Incoming) -> tuple[Any, Message]:
        """The event, and its message with a structured CloudEvent taken apart.

        :raises DecodingError: type or body do not fit.
        """
        message = incoming.message
        quick = self._quick.get((message.type, message.content_type))
        if quick is not None and incoming.problem is None and message.content_encoding is None:
            return quick(message.body), message
        if incoming.problem is not None:
            raise DecodingError(incoming.problem)
        if message.content_encoding not in (None, "", "identity", "utf-8"):
            raise DecodingError(f"content encoding {message.content_encoding!r} is not understood")
        if message.content_type.startswith(STRUCTURED):
            message = unwrap(message)
        if self._subscription.responder and is_expired(message):
            raise Expired
        cls = self._by_type.get(message.type) if self._by_type else self._subscription.raw
        if cls is None:
            cls = self._guess(message)
        decode = self._decoders.get((message.content_type, cls)) or self._decoder(message.content_type, cls)
        plain = message is incoming.message and not self._subscription.responder
        if plain and message.type in self._by_type and len(self._quick) < 64:
            self._quick[message.type, message.content_type] = decode
        return decode(message.body), message

    def _decoder(self, content_type: str, cls: Any) -> Decode:
        decode = self._codecs.get(content_type).decoder(cls)
        if len(self._decoders) < 64:  # content types are chosen by strangers
            self._decoders[content_type, cls] = decode
        return decode

    def _guess(self, message: Message) -> Any:
        """The class of a message whose type is none of ours: a foreign client's, or another event's."""
        if not message.source or not message.type:
            if self._only is not None:
                return self._only
            fits = self._fitting(message.topic)
            if len(fits) == 1:
                return fits[0]
            raise DecodingError(
                f"a message without a type on topic {message.topic!r} fits {len(fits)} of the subscription's events; "
                "set the header ce-type"
            )
        if self._subscription.ignore_unknown:
            raise Ignored
        known = ", ".join(sorted(self._by_type))
        raise DecodingError(f"type {message.type[:128]!r} is none of the subscription's events ({known})")

    def _fitting(self, topic: str) -> list[Any]:
        """The events whose topic template makes such a topic; looked for once per topic."""
        fits = self._by_topic.get(topic)
        if fits is None:
            fits = [s.cls for s in self._subscription.events if topic_matches(s.template.pattern, topic)]
            if len(self._by_topic) < 1024:  # topics are chosen by strangers
                self._by_topic[topic] = fits
        return fits


def conclude(subscription: Subscription, incoming: Incoming, error: BaseException | None) -> Settlement:
    """What becomes of a delivery whose handling ended so."""
    if error is None:
        return ACK
    if isinstance(error, NOTHING_TO_DO):
        return ACK
    if subscription.responder and not isinstance(error, RetryLater):
        return ACK  # the requester is told of the failure and decides for itself
    settlement = settlement_of(error, incoming.attempt, subscription.retry)
    if incoming.problem is not None and isinstance(settlement, DeadLetter):
        return msgspec.structs.replace(settlement, verbatim=True)
    return settlement


def is_users_fault(error: BaseException) -> bool:
    """Whether a handler's exception is worth a traceback in the log: not one that chooses an outcome."""
    return not isinstance(error, (RetryLater, Reject, DecodingError, *NOTHING_TO_DO))
