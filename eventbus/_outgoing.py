"""From the user's object to a message: encoded once, with what can be known per class found out per class."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypedDict

import msgspec
from msgspec.structs import replace

from eventbus._codecs import Codecs
from eventbus._errors import ConfigurationError, EncodingError, MessageTooLarge
from eventbus._events import EventSpec, is_event, spec_of
from eventbus._ids import uuid7
from eventbus._keys import key_headers
from eventbus._message import MAX_TOPIC_BYTES, NO_HEADERS, HeaderValue, Message
from eventbus._schedule import due_at
from eventbus._subscription import default_exchange, exchange_of
from eventbus._topology import Exchange

MAX_HEADERS = 64
JSON = "application/json"


class PublishOptions(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a caller may say about one publish; None leaves it to the event class and the bus."""

    topic: str | None = None
    exchange: str | Exchange | None = None
    type: str | None = None
    headers: Mapping[str, HeaderValue] | None = None
    mandatory: bool | None = None
    ttl: float | None = None
    priority: int | None = None
    persistent: bool | None = None
    correlation_id: str | None = None
    key: str | None = None
    delay: float | None = None
    deliver_at: datetime | None = None
    timeout: float | None = None


NO_OPTIONS = PublishOptions()
_OF_THE_PUBLISH = {"mandatory", "timeout"}


class _Shape:
    """What all events of one class have in common on the wire."""

    __slots__ = ("encode", "exchange", "spec")

    def __init__(self, spec: EventSpec | None, encode: Callable[[Any], bytes], exchange: Exchange) -> None:
        self.spec = spec
        self.encode = encode
        self.exchange = exchange


class Encoder:
    """Makes messages for one bus.

    ``declare`` is told of every exchange before its first message, ``first`` of every class before its first event or
    request.
    """

    def __init__(
        self,
        *,
        codecs: Codecs,
        source: str,
        max_body: int,
        declare: Callable[[Exchange], None],
        first: Callable[[type, bool], None] = lambda cls, request: None,
    ) -> None:
        self._codec = codecs.get(JSON)
        self._source = source
        self._max_body = max_body
        self._declare = declare
        self._first = first
        self._shapes: dict[tuple[type, bool], _Shape] = {}

    def message(
        self,
        event: Any,
        options: PublishOptions = NO_OPTIONS,
        *,
        request: bool = False,
        reply_to: str | None = None,
        extra_headers: Mapping[str, HeaderValue] = NO_HEADERS,
    ) -> Message:
        """The message for an event, a request, or a plain dict or list with an explicit topic.

        A message that has been made before stays as it is.

        :raises EncodingError: the object does not fit its class or its topic.
        :raises MessageTooLarge: body, headers or topic are above the limits.
        """
        if type(event) is Message:
            return self._made_before(event, options)
        shape = self._shapes.get((type(event), request)) or self._shape(type(event), request)
        spec = shape.spec
        if options is NO_OPTIONS and spec is not None and not request:
            message = self._as_declared(event, shape, spec)
            return message if spec.key is None else replace(message, headers=key_headers(spec.key(event)))
        topic = options.topic
        if topic is None:
            if spec is None:
                raise ConfigurationError(
                    f"a plain {type(event).__name__} needs topic=...; event classes bring their own"
                )
            topic = spec.template.render(event)
        elif len(topic.encode()) > MAX_TOPIC_BYTES:
            raise MessageTooLarge(
                f"the topic has {len(topic.encode())} bytes; a routing key has at most {MAX_TOPIC_BYTES}"
            )
        body = self._body(event, shape)
        headers = _headers(options.headers, extra_headers)
        key = options.key if options.key is not None or spec is None or spec.key is None else spec.key(event)
        if key is not None:
            headers = {**headers, **key_headers(key)}
        ttl = options.ttl if options.ttl is not None else (spec.ttl if spec else None)
        now = time.time()
        due = due_at(options.delay, options.deliver_at, now)
        if due is not None and (ttl is not None or request):
            raise ConfigurationError(
                "neither a request nor an event with a ttl can be delayed: it would expire meanwhile"
            )
        return Message(
            exchange=self._exchange(options.exchange, shape),
            topic=topic,
            body=body,
            id=uuid7(),
            type=options.type or (spec.type if spec else topic),
            source=self._source,
            time=now,
            subject=topic,
            dataschema=spec.dataschema if spec else None,
            headers=headers,
            correlation_id=options.correlation_id,
            reply_to=reply_to,
            priority=options.priority if options.priority is not None else (spec.priority if spec else None),
            ttl=ttl,
            persistent=_persistent(options, spec, request),
            deliver_at=due,
        )

    def _as_declared(self, event: Any, shape: _Shape, spec: EventSpec) -> Message:
        """The message of an event of which its class says everything: nearly all of them."""
        topic = spec.template.render(event)
        return Message(
            exchange=shape.exchange.name,
            topic=topic,
            body=self._body(event, shape),
            id=uuid7(),
            type=spec.type,
            source=self._source,
            time=time.time(),
            subject=topic,
            dataschema=spec.dataschema,
            priority=spec.priority,
            ttl=spec.ttl,
            persistent=spec.persistent,
        )

    def _made_before(self, message: Message, options: PublishOptions) -> Message:
        said = [name for name in options.__struct_fields__ if getattr(options, name) is not None]
        if not set(said) <= _OF_THE_PUBLISH:
            raise ConfigurationError(f"a message is published as it was made; {', '.join(said)} belong to its making")
        if len(message.body) > self._max_body:
            raise self._too_large("the message", len(message.body))
        return message

    def _body(self, event: Any, shape: _Shape) -> bytes:
        body = shape.encode(event)
        if len(body) > self._max_body:
            raise self._too_large(type(event).__name__, len(body))
        return body

    def _too_large(self, what: str, size: int) -> MessageTooLarge:
        return MessageTooLarge(
            f"the body of {what} has {size} bytes, above the limit of {self._max_body} (max_body of the bus)"
        )

    def _exchange(self, given: str | Exchange | None, shape: _Shape) -> str:
        if given is None:
            return shape.exchange.name
        if isinstance(given, str):
            return given
        self._declare(given)
        return given.name

    def _shape(self, cls: type, request: bool) -> _Shape:
        if is_event(cls):
            spec: EventSpec | None = spec_of(cls)
            assert spec is not None
            exchange = exchange_of(spec, responder=request)
        elif issubclass(cls, (dict, list)):
            spec, exchange = None, default_exchange(responder=request)
        else:
            spec_of(cls)  # says how to declare it
            raise AssertionError
        self._declare(exchange)
        self._first(cls, request)
        shape = _Shape(spec, self._codec.encoder(cls), exchange)
        self._shapes[cls, request] = shape
        return shape

    def mandatory(self, cls: type) -> bool | None:
        """What an event's class says about ``mandatory``."""
        shape = self._shapes.get((cls, False))
        return shape.spec.mandatory if shape is not None and shape.spec is not None else None


def _persistent(options: PublishOptions, spec: EventSpec | None, request: bool) -> bool:
    if options.persistent is not None:
        return options.persistent
    # A request dies with its deadline; writing it to disk buys nothing.
    return False if request else (spec.persistent if spec else True)


def _headers(given: Mapping[str, HeaderValue] | None, extra: Mapping[str, HeaderValue]) -> Mapping[str, HeaderValue]:
    if not given:
        return extra
    if len(given) > MAX_HEADERS:
        raise MessageTooLarge(f"{len(given)} headers; at most {MAX_HEADERS} are sent")
    for name in given:
        if not isinstance(name, str) or not name:
            raise EncodingError("header names are non-empty text")
    return {**given, **extra} if extra else given


class PublishKeywords(TypedDict, total=False):
    """Keywords of ``publish``, ``submit`` and ``publish_many``.

    ``topic``, ``exchange`` and ``type`` override those of the event class; ``headers`` are the application's own;
    ``mandatory`` raises Unroutable when nobody is subscribed; ``ttl`` is seconds until an undelivered message expires;
    ``key`` is the ordering key: ordered subscriptions handle messages of one key one after the other;
    ``delay`` (seconds) or ``deliver_at`` (with a time zone) is when the broker shall hand the event to its queues: the
    confirm comes at once; ``timeout`` is seconds until the outcome.
    """

    topic: str
    exchange: str | Exchange
    type: str
    headers: Mapping[str, HeaderValue]
    mandatory: bool
    ttl: float
    priority: int
    persistent: bool
    correlation_id: str
    key: str
    delay: float
    deliver_at: datetime
    timeout: float


def options_from(keywords: PublishKeywords) -> PublishOptions:
    """The options that a caller's keywords say; an unknown keyword is a ConfigurationError."""
    if not keywords:
        return NO_OPTIONS
    try:
        return PublishOptions(**keywords)
    except TypeError:
        unknown = set(keywords) - set(PublishOptions.__struct_fields__)
        raise ConfigurationError(
            f"unknown option {', '.join(sorted(unknown))}; known are {', '.join(PublishOptions.__struct_fields__)}"
        ) from None
