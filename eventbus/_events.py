"""Declaring events: what a class is called on the wire, where it goes, and with which promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec

from eventbus._codecs import adapter_for
from eventbus._errors import ConfigurationError
from eventbus._templates import TopicTemplate, key_renderer
from eventbus._topology import Exchange, ExchangeKind

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

_ATTRIBUTE = "__eventbus_event__"
MAX_NAME = 128


class Request(Generic[R_co]):
    """Optional base of a request class that tells the type of its reply: ``class QuoteRequested(Request[Quote])``.

    It has no fields and no behaviour; ``bus.request(...)`` reads the reply's type from it, and type
    checkers give ``bus.request(QuoteRequested(...))`` the type ``Quote``.
    """

    __slots__ = ()


class EventSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What ``@event`` declared for a class. ``type`` is the CloudEvents type: name, and version above 1."""

    cls: type
    name: str
    type: str
    template: TopicTemplate
    exchange: Exchange | None = None
    persistent: bool = True
    ttl: float | None = None
    priority: int | None = None
    mandatory: bool | None = None
    dataschema: str | None = None
    reply: Any = None
    key: Callable[[object], str] | None = None
    """Makes the ordering key of an event."""


def event(
    name: str,
    *,
    topic: str | None = None,
    exchange: str | Exchange | None = None,
    kind: ExchangeKind = "topic",
    version: int = 1,
    durable: bool = True,
    persistent: bool | None = None,
    ttl: float | None = None,
    priority: int | None = None,
    mandatory: bool | None = None,
    dataschema: str | None = None,
    reply: Any = None,
    key: str | None = None,
) -> Callable[[type[T]], type[T]]:
    """Declare a class as an event (or a request); put it above ``@dataclass`` and its like.

    The class stays as it is: a dataclass, msgspec.Struct, attrs class or pydantic model.

    :param name: its CloudEvents type, dotted and stable, such as ``customers.registered``.
    :param topic: topic template; ``{field}`` takes a field of the event. Defaults to the name.
    :param exchange: where it is published, by name or as an :class:`Exchange`; ``kind`` and ``durable`` describe
        the exchange when it is given by name.
    :param version: above 1 the wire type becomes ``<name>.v<version>``.
    :param persistent: whether the broker writes messages to disk; defaults to ``durable``.
    :param ttl: seconds after which an undelivered message expires.
    :param priority: 0 to 9, for queues with priorities.
    :param mandatory: raise ``Unroutable`` when nobody is subscribed (default: the bus decides).
    :param dataschema: CloudEvents ``dataschema``, a URI.
    :param reply: type of the reply, where the class is a request without :class:`Request` as base.
    :param key: template of the ordering key, with fields as in ``topic``, such as ``{customer_id}``: subscriptions with
        ``ordered`` or ``partitions`` handle the events of one key one after the other, in the order of publishing.
    :raises ConfigurationError: the class is of no known kind, or topic or key name a field that it has not.
    """
    if not isinstance(name, str) or not name or len(name) > MAX_NAME or any(c.isspace() for c in name):
        raise ConfigurationError(f"an event's name is 1 to {MAX_NAME} characters without white space, not {name!r}")
    if version < 1:
        raise ConfigurationError(f"event {name!r}: versions count from 1")
    if ttl is not None and ttl < 0:
        raise ConfigurationError(f"event {name!r}: ttl is seconds and cannot be negative")
    if priority is not None and not 0 <= priority <= 255:
        raise ConfigurationError(f"event {name!r}: priority is 0 to 255")
    if isinstance(exchange, str):
        exchange = Exchange(name=exchange, kind=kind, durable=durable)

    def declare(cls: type[T]) -> type[T]:
        if not isinstance(cls, type):
            raise ConfigurationError(f"@event({name!r}) decorates classes, not {type(cls).__name__}")
        fields = adapter_for(cls).fields(cls)
        spec = EventSpec(
            cls=cls,
            name=name,
            type=name if version == 1 else f"{name}.v{version}",
            template=TopicTemplate.parse(topic or name, fields, cls.__name__),
            exchange=exchange,
            persistent=durable if persistent is None else persistent,
            ttl=ttl,
            priority=priority,
            mandatory=mandatory,
            dataschema=dataschema,
            reply=reply if reply is not None else _reply_of(cls),
            key=None if key is None else key_renderer(key, fields, cls.__name__),
        )
        setattr(cls, _ATTRIBUTE, spec)
        return cls

    return declare


def _reply_of(cls: type) -> Any:
    for base in getattr(cls, "__orig_bases__", ()):
        if get_origin(base) is Request:
            return get_args(base)[0]
    return None


def spec_of(cls: type) -> EventSpec:
    """What ``@event`` declared for exactly this class.

    :raises ConfigurationError: the class is not declared; a parent's declaration does not count, because
        two classes of one name could not be told apart on the wire.
    """
    spec = cls.__dict__.get(_ATTRIBUTE)
    if spec is None:
        raise ConfigurationError(
            f'{cls.__name__} is not an event: decorate the class with @event("some.name"), above @dataclass'
        )
    assert isinstance(spec, EventSpec)
    return spec


def is_event(cls: object) -> bool:
    """Whether ``@event`` declared this very class."""
    return isinstance(cls, type) and _ATTRIBUTE in cls.__dict__
