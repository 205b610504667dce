"""Our topology as operations: what is declared, with which arguments, and how it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventbus._topology import Binding, Exchange, Queue, dead_letter_queue
from eventbus.transport import ConsumerSpec, QueueCount
from eventbus_rabbitmq._options import Declare, QueueType
from eventbus_rabbitmq._port import (
    BindExchange,
    BindQueue,
    Channel,
    CloseChannel,
    Consume,
    CountQueue,
    DeclareExchange,
    DeclareQueue,
    Operation,
    Qos,
    Session,
    Steps,
)
from eventbus_rabbitmq._waiting import Wait

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"
CONSUMER_TAG = "eventbus"

# At-least-once dead-lettering works only together with reject-publish (docs/quorum-queues).
AT_LEAST_ONCE = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


SPARE_SECONDS = 86400.0


class Declarer:
    """Makes operations by the transport's options."""

    def __init__(self, *, queue_type: QueueType, declare: Declare, queue_exchange: str = "") -> None:
        self._queue_type = queue_type
        self._declare = declare
        self.queue_exchange = Exchange(name=queue_exchange)
        """Where messages for a queue are published by its name; if not the default, every queue is bound to it."""

    def creates(self, queue: Queue) -> bool:
        """Whether we declare this queue: one that dies with its consumers is there only if they do."""
        return not queue.name or self._declare == "create" or (queue.auto_delete and self._declare == "passive")

    @property
    def checks(self) -> bool:
        """Whether what a message needs is looked for at the broker before the message is sent."""
        return self._declare != "none"

    def exchange(self, channel: Channel, exchange: Exchange) -> Steps[None]:
        """Make sure of one exchange."""
        if self._declare == "none" or not exchange.name:
            return
        yield DeclareExchange(
            channel,
            exchange.name,
            exchange.kind,
            self._declare == "passive" or exchange.name.startswith("amq."),
            exchange.durable,
            exchange.auto_delete,
            exchange.internal,
            exchange.arguments,
        )

    def check_exchange(self, channel: Channel, name: str) -> Steps[None]:
        """Check that an exchange exists, of which no more than the name is known."""
        if self._declare != "none":
            yield DeclareExchange(channel, name, "topic", True, True, False, False, {})

    def bindings(
        self, channel: Channel, bindings: tuple[Binding, ...], queues: tuple[Queue, ...], own_queue: str
    ) -> Steps[None]:
        """Make sure of bindings of ``queues``; an empty queue name stands for ``own_queue``."""
        ours = {queue.name for queue in queues if self.creates(queue)}
        for binding in bindings:
            if self._declare != "create" and binding.queue not in ours:
                continue  # exists already, where we may not create
            queue = own_queue if binding.queue == "" else binding.queue
            if queue is not None:
                yield BindQueue(channel, queue, binding.exchange, binding.pattern, binding.arguments)
            if binding.to_exchange is not None:
                yield BindExchange(channel, binding.to_exchange, binding.exchange, binding.pattern, binding.arguments)

    def queue(self, channel: Channel, queue: Queue) -> Steps[str]:
        """Make sure of one queue, its dead-letter queue first. Gives its name."""
        if not self.creates(queue):
            if self._declare == "passive":
                if queue.dead_letter:
                    yield self._queue_operation(channel, dead_letter_queue(queue), True)
                yield self._queue_operation(channel, queue, True)
            return queue.name
        if self.queue_exchange.name:
            yield from self.exchange(channel, self.queue_exchange)
        if queue.dead_letter:
            yield from self._create(channel, dead_letter_queue(queue))
        name: str = yield from self._create(channel, queue)
        return name

    def _create(self, channel: Channel, queue: Queue) -> Steps[str]:
        name: str = yield self._queue_operation(channel, queue, False)
        if self.queue_exchange.name:
            yield BindQueue(channel, name, self.queue_exchange.name, name, {})
        return name

    def _queue_operation(self, channel: Channel, queue: Queue, passive: bool) -> DeclareQueue:
        exclusive = queue.exclusive or not queue.name
        return DeclareQueue(
            channel,
            queue.name,
            passive,
            queue.durable and not exclusive,
            exclusive,
            queue.auto_delete or not queue.name,
            self.arguments(queue),
        )

    def type_of(self, queue: Queue) -> QueueType:
        """Quorum or classic: quorum queues are durable, shared, and live until they are deleted."""
        if not queue.name or not queue.durable or queue.exclusive or queue.auto_delete:
            return "classic"
        return queue.type or self._queue_type

    def arguments(self, queue: Queue) -> Mapping[str, Any]:
        """The ``x-`` arguments of a queue."""
        kind = self.type_of(queue)
        found: dict[str, Any] = {}
        if kind == "quorum":
            found["x-queue-type"] = "quorum"
            # In a cluster, queues are not all led by the node that a deployment happened to be connected to.
            found["x-queue-leader-locator"] = "balanced"
            if queue.delivery_limit is not None:
                found["x-delivery-limit"] = queue.delivery_limit
        elif queue.max_priority is not None:
            found["x-max-priority"] = queue.max_priority
        if queue.dead_letter:
            found["x-dead-letter-exchange"] = self.queue_exchange.name
            found["x-dead-letter-routing-key"] = queue.dead_letter
            if kind == "quorum":
                found |= AT_LEAST_ONCE
        if queue.message_ttl is not None:
            found["x-message-ttl"] = round(queue.message_ttl * 1000)
        if queue.expires is not None:
            found["x-expires"] = round(queue.expires * 1000)
        if queue.max_length is not None:
            found["x-max-length"] = queue.max_length
        if queue.single_active_consumer:
            found["x-single-active-consumer"] = True
        return {name: value for name, value in {**found, **queue.arguments}.items() if value is not None}

    def wait(self, channel: Channel, wait: Wait) -> Steps[None]:
        """Make sure of the queue where messages wait, and of the exchange before it where they keep their topic.

        The queue expires when unused, and publishing is no use to a broker: so it lives twice its delay and a day
        longer than the last declaration, and is declared again before a message that comes a minute later. In a day a
        broker should have found a majority for the queue that its messages go on to. Its exchange goes with it.
        """
        like = wait.like or self._queue_type
        arguments: dict[str, Any] = {"x-dead-letter-exchange": wait.to}
        if wait.topic is not None:
            arguments["x-dead-letter-routing-key"] = wait.topic
        if like == "quorum":
            arguments |= AT_LEAST_ONCE
        waiting = Queue(
            name=wait.name,
            type=like,
            message_ttl=wait.seconds,
            expires=2 * wait.seconds + SPARE_SECONDS,
            arguments=arguments,
        )
        if wait.topic is not None:
            yield from self._create(channel, waiting)
            return
        yield DeclareExchange(channel, wait.name, "topic", False, True, True, False, {})
        yield self._queue_operation(channel, waiting, False)
        yield BindQueue(channel, wait.name, wait.name, "#", {})

    def consumer(self, channel: Channel, spec: ConsumerSpec) -> Steps[str]:
        """Everything that a consumer needs, then the consumer. Gives the queue's name."""
        if spec.direct_reply:
            yield Consume(channel, DIRECT_REPLY_TO, CONSUMER_TAG, True, False)
            return DIRECT_REPLY_TO
        name = spec.queue.name
        if spec.inspect:
            yield Qos(channel, spec.prefetch)
            yield Consume(channel, name, CONSUMER_TAG, False, False)
            return name
        for exchange in spec.topology.exchanges:
            yield from self.exchange(channel, exchange)
        queues = spec.topology.queues or (spec.queue,)
        for queue in queues:
            declared = yield from self.queue(channel, queue)
            if queue.name == spec.queue.name:
                name = declared
        yield from self.bindings(channel, spec.topology.bindings, queues, name)
        yield Qos(channel, spec.prefetch)
        yield Consume(channel, name, CONSUMER_TAG, spec.auto_ack, False)
        return name


def count(channel: Channel, queue: str) -> Steps[QueueCount]:
    """What a queue holds."""
    found: QueueCount = yield CountQueue(channel, queue)
    return found


def describe(operation: Operation) -> str:
    """What an operation is about, for error texts."""
    match operation:
        case DeclareExchange(_, name):
            return f"exchange {name!r}"
        case DeclareQueue(_, name):
            return f"queue {name!r}"
        case BindQueue(_, queue, exchange):
            return f"binding of queue {queue!r} to exchange {exchange!r}"
        case BindExchange(_, exchange, source):
            return f"binding of exchange {exchange!r} to exchange {source!r}"
        case Consume(_, queue) | CountQueue(_, queue):
            return f"queue {queue!r}"
        case _:
            return "a channel"


def close_channel(session: Session, channel: Channel) -> None:
    """Close a channel, whatever becomes of that."""

    def steps() -> Steps[None]:
        yield CloseChannel(channel)

    session.run(steps(), lambda _, error: None)
