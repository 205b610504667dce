"""What a virtual host holds, as values: made from a topology (what shall be) or read from a broker (what is)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from eventbus_rabbitmq import RabbitMQOptions, RabbitMQTransport
from eventbus_rabbitmq._operations import Declarer

from eventbus import ConfigurationError, Exchange, Queue, Topology
from eventbus._bus._core import BusCore
from eventbus._topology import dead_letter_queue


class ExchangeLayout(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange of a broker."""

    name: str
    kind: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = {}


class QueueLayout(msgspec.Struct, frozen=True, kw_only=True):
    """A queue of a broker; its type is one of its arguments."""

    name: str
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] = {}


class BindingLayout(msgspec.Struct, frozen=True, kw_only=True):
    """A binding of a queue, or of an exchange, to the exchange ``source``."""

    source: str
    destination: str
    to_queue: bool
    routing_key: str
    arguments: Mapping[str, Any] = {}


class PolicyLayout(msgspec.Struct, frozen=True, kw_only=True):
    """A policy of a broker."""

    name: str
    pattern: str
    apply_to: str
    definition: Mapping[str, Any]
    priority: int = 0


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """All of them. Queues that live and die with their consumers are no part of it."""

    exchanges: tuple[ExchangeLayout, ...] = ()
    queues: tuple[QueueLayout, ...] = ()
    bindings: tuple[BindingLayout, ...] = ()
    policies: tuple[PolicyLayout, ...] = ()


def options_of(bus: BusCore) -> RabbitMQOptions:
    """The RabbitMQ options of a bus; those of another transport are RabbitMQ's defaults, as it is moved there."""
    transport = bus.transport
    return transport.options if isinstance(transport, RabbitMQTransport) else RabbitMQOptions()


def declarer_of(options: RabbitMQOptions) -> Declarer:
    """Knows arguments and types of queues, as the transport declares them."""
    return Declarer(queue_type=options.queue_type, declare=options.declare, queue_exchange=options.queue_exchange)


def layout_of(topology: Topology, declarer: Declarer) -> Layout:
    """What a broker must hold for this topology."""
    exchanges = {exchange.name: _exchange(exchange) for exchange in topology.exchanges if _is_ours(exchange.name)}
    lasting = [queue for queue in topology.queues if queue.name and not queue.auto_delete and not queue.exclusive]
    queues: dict[str, QueueLayout] = {}
    for queue in lasting:
        if queue.dead_letter and not any(other.name == queue.dead_letter for other in lasting):
            dead = dead_letter_queue(queue)
            queues[dead.name] = _queue(dead, declarer)
        queues[queue.name] = _queue(queue, declarer)
    bindings = [
        BindingLayout(
            source=binding.exchange,
            destination=str(binding.queue if binding.queue is not None else binding.to_exchange),
            to_queue=binding.queue is not None,
            routing_key=binding.pattern,
            arguments=dict(binding.arguments),
        )
        for binding in topology.bindings
        if binding.queue is None or binding.queue in queues
    ]
    shared = declarer.queue_exchange
    if shared.name:
        exchanges[shared.name] = _exchange(shared)
        bindings += [
            BindingLayout(source=shared.name, destination=name, to_queue=True, routing_key=name) for name in queues
        ]
    policies = tuple(
        PolicyLayout(
            name=policy.name,
            pattern=policy.pattern,
            apply_to=policy.apply_to,
            definition=dict(policy.definition),
            priority=policy.priority,
        )
        for policy in topology.policies
    )
    return Layout(
        exchanges=tuple(exchanges.values()),
        queues=tuple(queues.values()),
        bindings=tuple(dict.fromkeys(_hashable(binding) for binding in bindings)),
        policies=policies,
    )


def topology_of(buses: Mapping[str, BusCore]) -> tuple[Topology, RabbitMQOptions]:
    """The topology of several buses together, and the options that they agree on.

    :raises ConfigurationError: two of them want one name with other properties, or other options for the broker.
    """
    whole, first, options = Topology(), "", RabbitMQOptions()
    for name, bus in buses.items():
        found = options_of(bus)
        agreed = ("queue_type", "queue_exchange")
        if first and any(getattr(found, field) != getattr(options, field) for field in agreed):
            raise ConfigurationError(f"{first} and {name} have other values of {' or '.join(agreed)} in their URLs")
        try:
            whole = whole.merged(bus.topology())
        except ConfigurationError as error:
            raise ConfigurationError(f"{name} does not fit those before it: {error}") from None
        first, options = first or name, found if not first else options
    return whole, options


def options_by_service(buses: Mapping[str, BusCore]) -> Mapping[str, RabbitMQOptions]:
    """The options of each service: one may declare its topology, and another find it there.

    Of several buses of one service, which are one user, one that declares is enough.
    """
    found: dict[str, RabbitMQOptions] = {}
    for bus in buses.values():
        options = options_of(bus)
        for access in bus.topology().services:
            if access.service not in found or options.declare == "create":
                found[access.service] = options
    return found


def _is_ours(name: str) -> bool:
    return bool(name) and not name.startswith("amq.")


def _exchange(exchange: Exchange) -> ExchangeLayout:
    return ExchangeLayout(
        name=exchange.name,
        kind=exchange.kind,
        durable=exchange.durable,
        auto_delete=exchange.auto_delete,
        internal=exchange.internal,
        arguments=dict(exchange.arguments),
    )


def _queue(queue: Queue, declarer: Declarer) -> QueueLayout:
    return QueueLayout(
        name=queue.name, durable=queue.durable, auto_delete=queue.auto_delete, arguments=declarer.arguments(queue)
    )


class _Frozen(dict):  # type: ignore[type-arg]
    """Arguments that can be a key: compared by value."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(sorted(self.items(), key=lambda item: item[0])))


def _hashable(binding: BindingLayout) -> BindingLayout:
    return msgspec.structs.replace(binding, arguments=_Frozen(binding.arguments))
