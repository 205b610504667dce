"""Topology: the exchanges, queues and bindings that declared events and subscriptions need, as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from eventbus._errors import ConfigurationError

ExchangeKind = Literal["topic", "direct", "fanout", "headers"]
QueueType = Literal["quorum", "classic"]

EVENTS_EXCHANGE = "eventbus.events"
REQUESTS_EXCHANGE = "eventbus.requests"
DEAD_SUFFIX = ".dead"

UNLIMITED_DELIVERIES = 2**31 - 1

NO_ARGUMENTS: Mapping[str, Any] = {}


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A named place that messages are published to. ``name=""`` is the broker's default exchange."""

    name: str
    kind: ExchangeKind = "topic"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = NO_ARGUMENTS


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A queue of a subscription.

    An empty ``name`` asks the broker to name it; such a queue is exclusive to the connection and dies
    with it. ``type=None`` leaves quorum or classic to the transport's option. Times are seconds.
    ``dead_letter`` names the queue for messages that were given up, rejected or have expired; it is
    declared beside this one. ``arguments`` are passed to the broker as they are and win over the rest;
    None takes an argument away that we would give.
    """

    name: str
    type: QueueType | None = None
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    dead_letter: str | None = None
    delivery_limit: int | None = None
    message_ttl: float | None = None
    expires: float | None = None
    max_length: int | None = None
    max_priority: int | None = None
    single_active_consumer: bool = False
    arguments: Mapping[str, Any] = NO_ARGUMENTS

    @classmethod
    def of_dead_letters(cls, queue: str, *, type: QueueType | None = None) -> Queue:
        """The queue beside ``queue`` that keeps what was given up: for a subscription to dead letters.

        It has a delivery limit that is never reached. Looking at dead letters counts as deliveries: without a limit, a
        quorum queue of RabbitMQ 4 drops what comes back for the 21st time; with -1, which is no limit there, one of
        RabbitMQ 3 drops what comes back once (both seen). With a limit, messages also keep their place when they come
        back (https://www.rabbitmq.com/docs/quorum-queues#repeated-requeues).
        """
        return cls(name=queue + DEAD_SUFFIX, type=type, delivery_limit=UNLIMITED_DELIVERIES)


def dead_letter_queue(queue: Queue) -> Queue:
    """The queue for messages that ``queue`` gives up, if it names one."""
    return Queue(name=queue.dead_letter or "", type=queue.type, delivery_limit=UNLIMITED_DELIVERIES)


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """A rule by which ``exchange`` hands messages on, to a queue or to another exchange.

    ``queue=""`` means the server-named queue of the same consumer. ``pattern`` is the topic pattern
    (topic), the exact topic (direct) or unused; ``arguments`` is the header match (headers).
    """

    exchange: str
    queue: str | None = None
    to_exchange: str | None = None
    pattern: str = ""
    arguments: Mapping[str, Any] = NO_ARGUMENTS


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of the broker for queues or exchanges whose name matches ``pattern`` (a regular expression).

    ``definition`` is RabbitMQ's, such as ``{"max-length-bytes": 1_000_000_000}``; of several policies that match, the
    one of the highest ``priority`` holds.
    """

    name: str
    pattern: str
    definition: Mapping[str, Any]
    apply_to: Literal["queues", "exchanges", "all"] = "queues"
    priority: int = 0


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """What a service publishes: to ``exchange``, with topics that match ``pattern``; ``what`` names the event.

    ``delayed`` says that it publishes some of them with a delay.
    """

    exchange: str
    pattern: str
    what: str
    delayed: bool = False


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What one service does at the broker, by its code.

    ``writes`` is what it publishes and asks; ``queues`` are those it consumes from (one without a name is a
    server-named one), ``bindings`` theirs. ``asks`` and ``answers`` say whether it needs a reply queue, and writes to
    those of others.
    """

    service: str
    writes: tuple[Write, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    asks: bool = False
    answers: bool = False


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """Exchanges, queues and bindings, in the order in which they are declared; policies; and who uses them how."""

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    policies: tuple[Policy, ...] = ()
    services: tuple[Access, ...] = ()

    def merged(self, other: Topology) -> Topology:
        """Both together; the same name with other properties is a ConfigurationError that names both places."""
        return Topology(
            exchanges=_merge("exchange", self, other, "exchanges"),
            queues=_merge("queue", self, other, "queues"),
            bindings=self.bindings + tuple(b for b in other.bindings if b not in self.bindings),
            policies=_merge("policy", self, other, "policies"),
            services=_merge_services(self.services, other.services),
        )

    def users_of(self, name: str) -> str:
        """The services that use an exchange or queue, for texts."""
        found = [access.service for access in self.services if _uses(access, name)]
        return " and ".join(found) or ", ".join(access.service for access in self.services) or "one bus"


def _uses(access: Access, name: str) -> bool:
    return (
        any(write.exchange == name for write in access.writes)
        or any(name in (queue.name, queue.dead_letter) for queue in access.queues)
        or any(name in (binding.exchange, binding.to_exchange) for binding in access.bindings)
    )


def _merge(what: str, ours: Topology, theirs: Topology, field: str) -> tuple[Any, ...]:
    known = {item.name: item for item in getattr(ours, field) if item.name}
    added = []
    for item in getattr(theirs, field):
        if item.name and item.name in known:
            if known[item.name] != item:
                places = [
                    f"{topology.users_of(item.name)} has it with {_difference(one, two)}"
                    for topology, one, two in ((ours, known[item.name], item), (theirs, item, known[item.name]))
                ]
                raise ConfigurationError(
                    f"{what} {item.name!r} is declared twice with other properties: {places[0]}, {places[1]}"
                )
            continue
        added.append(item)
        known[item.name] = item
    return (*getattr(ours, field), *added)


def _difference(one: Any, two: Any) -> str:
    fields = [name for name in one.__struct_fields__ if getattr(one, name) != getattr(two, name)]
    return ", ".join(f"{name}={getattr(one, name)!r}" for name in fields)


def _merge_services(ours: tuple[Access, ...], theirs: tuple[Access, ...]) -> tuple[Access, ...]:
    """Several buses of one service are one user at the broker."""
    found = {access.service: access for access in ours}
    for access in theirs:
        known = found.get(access.service)
        if known is not None:
            access = Access(
                service=access.service,
                writes=known.writes + tuple(w for w in access.writes if w not in known.writes),
                queues=known.queues + tuple(q for q in access.queues if q not in known.queues),
                bindings=known.bindings + tuple(b for b in access.bindings if b not in known.bindings),
                asks=known.asks or access.asks,
                answers=known.answers or access.answers,
            )
        found[access.service] = access
    return tuple(found.values())
