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
    declared beside this one. ``arguments`` are passed to the broker as they are and win over the rest.
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


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """Exchanges, queues and bindings, in the order in which they are declared."""

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()

    def merged(self, other: Topology) -> Topology:
        """Both together; the same exchange or queue with other properties is a ConfigurationError."""
        return Topology(
            exchanges=_merge("exchange", self.exchanges, other.exchanges),
            queues=_merge("queue", self.queues, other.queues),
            bindings=self.bindings + tuple(b for b in other.bindings if b not in self.bindings),
        )


def _merge(what: str, ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> tuple[Any, ...]:
    known = {item.name: item for item in ours if item.name}
    added = []
    for item in theirs:
        if item.name and item.name in known:
            if known[item.name] != item:
                raise ConfigurationError(
                    f"{what} {item.name!r} is declared twice with other properties: {known[item.name]} and {item}"
                )
            continue
        added.append(item)
        known[item.name] = item
    return ours + tuple(added)
