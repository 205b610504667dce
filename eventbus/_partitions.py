"""Partitions of a subscription: its queues, each with a single active consumer, and how messages find theirs.

::

    events exchange --patterns--> <queue>.partitions (headers) --eventbus-slot-<n>--> <queue>.0 ... <queue>.<N-1>
                                        |  alternate exchange
                                        v
                                  <queue>.partitions.<N> (fanout) ---------------> <queue>.0

Messages without a slot, that is without a key, have no order and go to the first queue. The alternate exchange has the
number of partitions in its name, so that a program with another number is refused by the broker: with both layouts
bound, every message would come twice.
"""

from __future__ import annotations

import math

import msgspec

from eventbus._keys import SLOT_HEADERS, SLOTS, slots_of
from eventbus._topology import Binding, Exchange, Queue, Topology

MAX_PARTITIONS = SLOTS


def partitioned(queue: Queue, exchanges: tuple[Exchange, ...], bindings: tuple[Binding, ...], count: int) -> Topology:
    """What exists instead of a subscription's one queue and its bindings: the queues of ``count`` partitions.

    The way into the partitions comes last: until the queues are bound, a message would find the wrong one.
    """
    parts, rest = f"{queue.name}.partitions", f"{queue.name}.partitions.{count}"
    ours = (
        Exchange(name=rest, kind="fanout"),
        Exchange(name=parts, kind="headers", arguments={"alternate-exchange": rest}),
    )
    queues = tuple(
        msgspec.structs.replace(queue, name=f"{queue.name}.{number}", single_active_consumer=True)
        for number in range(count)
    )
    inner = [slot_binding(parts, each.name, number, count) for number, each in enumerate(queues)]
    inner.append(Binding(exchange=rest, queue=queues[0].name))
    outer = [
        msgspec.structs.replace(binding, queue=None, to_exchange=parts) if binding.queue == queue.name else binding
        for binding in bindings
    ]
    return Topology(exchanges=(*exchanges, *ours), queues=queues, bindings=(*inner, *outer))


def slot_binding(exchange: str, queue: str, number: int, count: int) -> Binding:
    """Hands the messages of a partition's slots to its queue."""
    slots = {SLOT_HEADERS[slot]: True for slot in slots_of(number, count)}
    return Binding(exchange=exchange, queue=queue, arguments={"x-match": "any", **slots})


def own_part(whole: Topology, number: int) -> Topology:
    """What the consumer of one partition makes sure of; that of the first one makes sure of everything."""
    if number == 0:
        return whole
    queue = whole.queues[number]
    bindings = tuple(binding for binding in whole.bindings if binding.queue == queue.name)
    names = {binding.exchange for binding in bindings}
    alternates = {e.arguments.get("alternate-exchange") for e in whole.exchanges if e.name in names}
    exchanges = tuple(exchange for exchange in whole.exchanges if exchange.name in names | alternates)
    return Topology(exchanges=exchanges, queues=(queue,), bindings=bindings)


def members_queue(queue: Queue) -> Queue:
    """A queue without messages, which every process that serves the partitions consumes: so they can be counted."""
    return Queue(name=f"{queue.name}.members", type="classic", auto_delete=True)


def surplus(held: int, partitions: int, members: int) -> int:
    """How many of the partitions that it holds a process gives up, where so many processes share them evenly."""
    return max(0, held - math.ceil(partitions / max(1, members)))
