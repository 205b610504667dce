"""What a queue does, worked out from its declaration and its ``x-`` arguments, as RabbitMQ reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eventbus._errors import ConfigurationError, TopologyMismatch
from eventbus._routing.headers import frozen_arguments
from eventbus.transport import Exchange, Queue

_KNOWN = {
    "x-queue-type": "type",
    "x-message-ttl": "message_ttl",
    "x-expires": "expires",
    "x-max-length": "max_length",
    "x-max-priority": "max_priority",
    "x-delivery-limit": "delivery_limit",
    "x-single-active-consumer": "single_active_consumer",
    "x-overflow": "overflow",
    "x-dead-letter-exchange": "dead_letter_exchange",
    "x-dead-letter-routing-key": "dead_letter_topic",
}
_MILLISECONDS = ("x-message-ttl", "x-expires")
_OVERFLOWS = ("drop-head", "reject-publish", "reject-publish-dlx")


class Properties(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides how a queue behaves. Times are seconds.

    ``dead_letter_topic=None`` keeps the message's own topic. ``other`` are arguments that change
    nothing here, kept because a re-declaration must repeat them.
    """

    type: str
    durable: bool
    exclusive: bool
    auto_delete: bool
    dead_letter_exchange: str | None
    dead_letter_topic: str | None
    delivery_limit: int | None
    message_ttl: float | None
    expires: float | None
    max_length: int | None
    max_priority: int | None
    single_active_consumer: bool
    overflow: str
    other: Mapping[str, Any]

    @property
    def quorum(self) -> bool:
        """Whether this is a quorum queue."""
        return self.type == "quorum"


def properties_of(queue: Queue, default_type: str) -> Properties:
    """The properties of a queue as declared; ConfigurationError when RabbitMQ would refuse them.

    Without a type of its own, a queue that can be a quorum queue has the default type, any other is classic.
    """
    arguments, other = _split(queue)
    needs_classic = queue.exclusive or queue.auto_delete or not queue.durable or not queue.name
    if "type" not in arguments:
        priorities = queue.max_priority is not None or "max_priority" in arguments
        arguments["type"] = queue.type or ("classic" if needs_classic or priorities else default_type)
    values: dict[str, Any] = {
        "durable": queue.durable,
        "exclusive": queue.exclusive or not queue.name,
        "auto_delete": queue.auto_delete,
        "dead_letter_exchange": None if queue.dead_letter is None else "",
        "dead_letter_topic": queue.dead_letter,
        "delivery_limit": queue.delivery_limit,
        "message_ttl": queue.message_ttl,
        "expires": queue.expires,
        "max_length": queue.max_length,
        "max_priority": queue.max_priority,
        "single_active_consumer": queue.single_active_consumer,
        "overflow": "drop-head",
        "other": other,
        **arguments,
    }
    if (
        "overflow" not in arguments
        and values["type"] == "quorum"
        and queue.dead_letter
        and queue.max_length is not None
    ):
        # Dead-lettering at least once, which our RabbitMQ transport asks for, works only with this one.
        values["overflow"] = "reject-publish"
    properties = Properties(**values)
    _check(queue.name, properties, needs_classic)
    return _without_what_the_type_ignores(properties)


def _split(queue: Queue) -> tuple[dict[str, Any], dict[str, Any]]:
    known: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for name, value in queue.arguments.items():
        if name in _KNOWN:
            known[_KNOWN[name]] = value / 1000 if name in _MILLISECONDS else value
        else:
            other[name] = value
    return known, other


def _check(name: str, properties: Properties, needs_classic: bool) -> None:
    def refuse(why: str) -> None:
        raise ConfigurationError(f"queue {name!r}: {why}")

    if properties.type not in ("quorum", "classic"):
        refuse(f"the type is quorum or classic, not {properties.type!r}")
    if properties.quorum and needs_classic:
        refuse("a quorum queue is durable, has a name, and is neither exclusive nor auto_delete")
    if properties.quorum and properties.max_priority is not None:
        refuse("a quorum queue has no max_priority")
    if properties.overflow not in _OVERFLOWS:
        refuse(f"x-overflow is one of {', '.join(_OVERFLOWS)}, not {properties.overflow!r}")
    if properties.quorum and properties.overflow == "reject-publish-dlx":
        refuse("a quorum queue has no overflow reject-publish-dlx")
    for what in ("delivery_limit", "message_ttl", "expires", "max_length", "max_priority"):
        value = getattr(properties, what)
        if value is not None and value < 0:
            refuse(f"{what} is not negative")
    if properties.expires == 0:
        refuse("expires is seconds above 0")
    if properties.max_priority is not None and not 1 <= properties.max_priority <= 255:
        refuse("max_priority is 1 to 255")


def _without_what_the_type_ignores(properties: Properties) -> Properties:
    return properties if properties.quorum else msgspec.structs.replace(properties, delivery_limit=None)


def check_same_queue(name: str, existing: Properties, wanted: Properties) -> None:
    """TopologyMismatch, naming what differs, unless both are equal (PRECONDITION_FAILED on RabbitMQ)."""
    _check_same(f"queue {name!r}", _fields(existing), _fields(wanted))


def check_same_exchange(existing: Exchange, wanted: Exchange) -> None:
    """TopologyMismatch, naming what differs, unless both are equal."""
    _check_same(f"exchange {wanted.name!r}", _fields(existing), _fields(wanted))


def _fields(value: msgspec.Struct) -> dict[str, Any]:
    return {field: getattr(value, field) for field in value.__struct_fields__}


def _check_same(what: str, existing: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = [
        f"{field} is {value!r}, not {wanted[field]!r}"
        for field, value in existing.items()
        if value != wanted[field]
        and not (isinstance(value, Mapping) and frozen_arguments(value) == frozen_arguments(wanted[field]))
    ]
    if differing:
        raise TopologyMismatch(f"{what} exists with other properties: {'; '.join(differing)}")
