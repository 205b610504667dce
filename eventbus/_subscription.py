"""Subscriptions as values, and the consumers that they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from eventbus._batch import Batch
from eventbus._events import EventSpec, spec_of
from eventbus._handlers import Handler
from eventbus._partitions import members_queue, own_part, partitioned
from eventbus._settlement import Retry
from eventbus._topology import (
    EVENTS_EXCHANGE,
    REQUESTS_EXCHANGE,
    Access,
    Binding,
    Exchange,
    Queue,
    Topology,
    Write,
)
from eventbus.transport import ConsumerSpec

Settle = Literal["success", "receipt", "manual"]


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler is subscribed to, in which group, and within which limits.

    ``raw`` is the type to decode to where no event class is given (a pattern alone); ``reply`` marks a
    responder and is the type of its answer. ``queue`` is the one queue; of a subscription with partitions, what each of
    their queues is made after.
    """

    name: str
    handler: Handler
    events: tuple[EventSpec, ...] = ()
    raw: Any = None
    group: str | None
    exchanges: tuple[Exchange, ...]
    bindings: tuple[Binding, ...]
    queue: Queue
    concurrency: int = 1
    prefetch: int = 11
    timeout: float | None = None
    settle: Settle = "success"
    retry: Retry = Retry()
    responder: bool = False
    ignore_unknown: bool = False
    ordered: bool = False
    partitions: int = 0
    batch: Batch | None = None

    def consumers(self) -> tuple[ConsumerSpec, ...]:
        """The consumers that serve this subscription: one, or one for each partition."""
        topology = self._declared()
        if not self.partitions:
            spec = ConsumerSpec(
                name=self.name,
                queue=self.queue,
                topology=topology,
                prefetch=self.prefetch,
                auto_ack=self.settle == "receipt",
                ordered=self.ordered,
            )
            return (spec,)
        return tuple(
            ConsumerSpec(
                name=f"{self.name}.{number}",
                queue=queue,
                topology=own_part(topology, number),
                prefetch=self.prefetch // self.partitions,
                ordered=True,
            )
            for number, queue in enumerate(topology.queues)
        )

    def members(self) -> ConsumerSpec | None:
        """The consumer by which the processes that share the partitions are counted."""
        if self.partitions < 2:
            return None
        queue = members_queue(self.queue)
        return ConsumerSpec(name=f"{self.name}.members", queue=queue, topology=Topology(queues=(queue,)), auto_ack=True)

    def topology(self) -> Topology:
        """All that must exist for it."""
        members = self.members()
        whole = self._declared()
        return whole if members is None else whole.merged(members.topology)

    def _declared(self) -> Topology:
        if self.partitions:
            return partitioned(self.queue, self.exchanges, self.bindings, self.partitions)
        return Topology(exchanges=self.exchanges, queues=(self.queue,), bindings=self.bindings)


def access_of(
    service: str,
    subscriptions: Sequence[Subscription],
    *,
    publishes: Sequence[type],
    requests: Sequence[type],
    schedules: Sequence[type] = (),
) -> Access:
    """What a service with these subscriptions, events and requests does at the broker."""

    def write(cls: type, *, responder: bool) -> Write:
        spec = spec_of(cls)
        exchange = exchange_of(spec, responder=responder)
        return Write(exchange=exchange.name, pattern=spec.template.pattern, what=spec.type, delayed=cls in schedules)

    return Access(
        service=service,
        writes=(
            *(write(cls, responder=False) for cls in publishes),
            *(write(cls, responder=True) for cls in requests),
        ),
        queues=tuple(queue for subscription in subscriptions for queue in subscription.topology().queues),
        bindings=tuple(binding for subscription in subscriptions for binding in subscription.topology().bindings),
        asks=bool(requests),
        answers=any(subscription.responder for subscription in subscriptions),
    )


def default_exchange(*, responder: bool) -> Exchange:
    """Where events, or requests, go that name no exchange."""
    return Exchange(name=REQUESTS_EXCHANGE if responder else EVENTS_EXCHANGE)


def exchange_of(spec: EventSpec, *, responder: bool) -> Exchange:
    """Where events of a class go: its own exchange, else the default one."""
    return spec.exchange or default_exchange(responder=responder)
