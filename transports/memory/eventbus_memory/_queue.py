"""A queue with its consumers, and the arrivals that are at them."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Callable

from eventbus._rules.properties import Properties
from eventbus.transport import Incoming, Message, restore_origin

from ._clock import Cancellable
from ._ready import Entry, Ready


class Consumer:
    """One consumer. ``deliver`` and ``gone`` are called through the broker's outbox.

    ``gone`` hears that the queue was deleted. ``dead`` says whether nobody can take deliveries any more
    (None: never). ``prefetch=0`` is no limit. ``inspect``: messages come as they lie in the queue.
    """

    __slots__ = (
        "active", "auto_ack", "dead", "deliver", "gone", "inspect", "max_body", "name", "prefetch", "queue",
        "unsettled", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        *,
        deliver: Callable[[Incoming], None],
        prefetch: int = 0,
        auto_ack: bool = False,
        inspect: bool = False,
        max_body: int = sys.maxsize,
        gone: Callable[[str], None] | None = None,
        dead: Callable[[], bool] | None = None,
    ) -> None:
        self.name = name
        self.deliver = deliver
        self.prefetch = prefetch
        self.auto_ack = auto_ack
        self.inspect = inspect
        self.max_body = max_body
        self.gone = gone
        self.dead = dead
        self.queue: Queued | None = None
        self.unsettled: dict[Arrival, None] = {}
        self.active = False
        """May be given messages: it is subscribed and, where only one consumer is active, it is that one."""
        self.waiting = False
        """Is in its queue's line of consumers that have room."""


class Arrival:
    """A message that is at a consumer: the token of its Incoming."""

    __slots__ = ("consumer", "entry", "open", "queue")

    def __init__(self, queue: Queued, consumer: Consumer, entry: Entry) -> None:
        self.queue = queue
        self.consumer = consumer
        self.entry = entry
        self.open = True


class Queued:
    """A queue. All its methods are called under the broker's lock."""

    __slots__ = (
        "consumers", "deleted", "expiry", "expiry_due", "line", "name", "orders", "owner", "properties", "ready",
        "unsettled", "used",
    )  # fmt: skip

    def __init__(self, name: str, properties: Properties, owner: object | None, now: float) -> None:
        self.name = name
        self.properties = properties
        self.owner = owner
        self.ready = Ready(properties.max_priority)
        self.consumers: list[Consumer] = []
        # Consumers with room, the next one to be served first: round robin without a search.
        self.line: deque[Consumer] = deque()
        self.unsettled = 0
        self.orders = itertools.count()
        self.expiry: Cancellable | None = None
        self.expiry_due = 0.0
        self.used = now
        self.deleted = False

    def entry(self, message: Message, now: float) -> Entry:
        """A place for a message that has just come; the shorter of both times to live counts."""
        ttl = self.properties.message_ttl
        if message.ttl is not None and (ttl is None or message.ttl < ttl):
            ttl = message.ttl
        return Entry(message, next(self.orders), None if ttl is None else now + ttl)

    @property
    def full(self) -> bool:
        """Whether it has no room for one message more. Unsettled ones do not count."""
        limit = self.properties.max_length
        return limit is not None and len(self.ready) >= limit

    def arrival(self, entry: Entry, consumer: Consumer) -> Incoming:
        """The message as it comes to the consumer, with the token that settles it."""
        token: Arrival | None = None
        if not consumer.auto_ack:
            token = Arrival(self, consumer, entry)
            consumer.unsettled[token] = None
            self.unsettled += 1
        message, attempt, first_seen = entry.message, 1, None
        if message.headers and not consumer.inspect:
            origin = restore_origin(message)
            message, attempt, first_seen = origin.message, origin.attempt, origin.first_seen
        if entry.redelivered:
            # A classic queue only knows that it has delivered the message before.
            attempt += entry.deliveries if self.properties.quorum else 1
        problem = None
        if len(message.body) > consumer.max_body:
            problem = f"the body has {len(message.body)} bytes; the limit is {consumer.max_body}"
        return Incoming(
            message=message,
            consumer=consumer.name,
            queue=self.name,
            attempt=attempt,
            redelivered=entry.redelivered,
            first_seen=first_seen,
            token=token,
            problem=problem,
        )

    def put_back(self, entry: Entry, *, asked: bool) -> bool:
        """Take a message back that was delivered; False when it has come back too often.

        A classic queue gives it its old place. A quorum queue keeps what comes back ahead of the rest,
        in the order of coming back; but without a delivery limit what a consumer hands back
        (``asked``) goes to the end, so that its log can be truncated
        (https://www.rabbitmq.com/docs/quorum-queues#repeated-requeues).
        """
        entry.redelivered = True
        entry.deliveries += 1
        limit = self.properties.delivery_limit
        if not self.properties.quorum:
            self.ready.put_back(entry)
        elif limit is not None and entry.deliveries > limit:
            return False
        elif limit is None and asked:
            entry.order = next(self.orders)
            self.ready.put(entry)
        else:
            entry.order = next(self.orders)
            self.ready.put_back(entry)
        return True

    # -- consumers ----------------------------------------------------------------------------------------

    def add(self, consumer: Consumer) -> None:
        """One consumer more."""
        consumer.queue = self
        self.consumers.append(consumer)
        self._activate()

    def remove(self, consumer: Consumer, now: float) -> None:
        """The consumer gets no more; what is at it stays there."""
        self.consumers.remove(consumer)
        consumer.active = False
        if consumer.waiting:
            self.line.remove(consumer)
            consumer.waiting = False
        self.used = now
        self._activate()

    def _activate(self) -> None:
        # The longest subscribed one is the single active consumer, until it goes.
        candidates = self.consumers[:1] if self.properties.single_active_consumer else self.consumers
        for consumer in candidates:
            if not consumer.active:
                consumer.active = True
                self.line_up(consumer)

    def line_up(self, consumer: Consumer) -> None:
        """Put the consumer at the end of the line, if it may get a message and has room for one."""
        if (
            consumer.active
            and not consumer.waiting
            and (not consumer.prefetch or consumer.auto_ack or len(consumer.unsettled) < consumer.prefetch)
        ):
            consumer.waiting = True
            self.line.append(consumer)

    def next_consumer(self) -> Consumer:
        """Take the first consumer out of the line; there must be one."""
        consumer = self.line.popleft()
        consumer.waiting = False
        return consumer

    def first_dead(self) -> Consumer | None:
        """A consumer that can take nothing any more."""
        for consumer in self.consumers:
            if consumer.dead is not None and consumer.dead():
                return consumer
        return None
