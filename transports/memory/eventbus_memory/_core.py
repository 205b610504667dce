"""The rules of the broker: what becomes of messages. No lock, no callback: MemoryBroker adds both."""

from __future__ import annotations

import logging
import secrets
import time
from functools import partial

import msgspec

from eventbus._errors import PublishError, Rejected
from eventbus._routing import UnknownExchange
from eventbus._rules.death import DELIVERY_LIMIT, EXPIRED, MAXLEN, REJECTED, dead_lettered, goes_in_circles
from eventbus._rules.publishing import destinations
from eventbus.transport import (
    Ack,
    DeadLetter,
    Incoming,
    Message,
    RetryIn,
    Settlement,
    dead_letter_copy,
    retry_copy,
)

from ._lifetime import Lifetimes
from ._queue import Arrival, Consumer, Queued
from ._ready import Entry
from ._tables import check_owner

log = logging.getLogger("eventbus.memory")

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"


class Core(Lifetimes):
    """Exchanges, queues and messages: publishing, delivering, settling and consuming."""

    # -- publishing ---------------------------------------------------------------------------------------

    def publish(self, message: Message, *, twice: bool = False) -> PublishError | None:
        """Hand the message to its queues when due; None is the confirm. ``twice`` adds a redelivered duplicate."""
        if message.deliver_at is not None and (left := message.deliver_at - time.time()) > 0:
            self.later(self.clock.now() + left, partial(self._due, message))
            return None
        return self._route(message, twice=twice)

    def _due(self, message: Message) -> None:
        outcome = self._route(message)
        if outcome is not None:
            log.warning("a delayed message could not be delivered: %s", outcome)

    def _route(self, message: Message, *, twice: bool = False) -> PublishError | None:
        if not message.exchange and message.topic in self.repliers:
            self._reply(self.repliers[message.topic], message)
            return None
        queues = destinations(self.router, self.exchanges, message)
        if not isinstance(queues, list):
            return queues
        refused = [queue.name for queue in queues if not self.enqueue(queue, message)]
        if twice:
            for queue in queues:
                self.enqueue(queue, message, redelivered=True)
        return Rejected(f"full: {', '.join(refused)}") if refused else None

    def _reply(self, consumer: Consumer, message: Message) -> None:
        # At most once, never stored: https://www.rabbitmq.com/docs/direct-reply-to
        self.outbox.append(
            (consumer.deliver, Incoming(message=message, consumer=consumer.name, queue=message.topic, token=None))
        )

    def enqueue(self, queue: Queued, message: Message, *, redelivered: bool = False) -> bool:
        """Add the message to a queue; False when the queue is full and refuses more."""
        properties = queue.properties
        if properties.max_length is not None and properties.overflow != "drop-head" and queue.full:
            if properties.overflow == "reject-publish-dlx":
                self._bury(queue, Entry(message, 0, None), MAXLEN)
            return False
        now = self.clock.now()
        entry = queue.entry(message, now)
        entry.redelivered, entry.deliveries = redelivered, int(redelivered)
        if queue.line and not queue.ready and (entry.expires is None or not properties.quorum):
            # A consumer waits. On a classic queue it gets even a message whose time to live is 0.
            consumer = queue.next_consumer()
            if consumer.dead is None or not consumer.dead():
                self.outbox.append((consumer.deliver, queue.arrival(entry, consumer)))
                queue.line_up(consumer)
                return True
            self.drop(consumer)
        queue.ready.put(entry)
        self.serve(queue, now)
        if properties.max_length is not None:
            self._trim(queue)
        return True

    def _trim(self, queue: Queued) -> None:
        """Drop from the head what is too much, which is what has just come back, if anything has."""
        limit = queue.properties.max_length
        if limit is not None and queue.properties.overflow == "drop-head":
            while len(queue.ready) > limit:
                self._bury(queue, queue.ready.pop(), MAXLEN)

    # -- delivering ---------------------------------------------------------------------------------------

    def serve(self, queue: Queued, now: float) -> None:
        """Deliver what can be delivered, and dead-letter what has expired at the head of the queue."""
        ready, line = queue.ready, queue.line
        while ready:
            entry = ready.head()
            if entry.expires is not None and entry.expires <= now:
                self._bury(queue, ready.pop(), EXPIRED)
            elif line:
                consumer = queue.next_consumer()
                if consumer.dead is not None and consumer.dead():
                    self.drop(consumer)
                    continue
                self.outbox.append((consumer.deliver, queue.arrival(ready.pop(), consumer)))
                queue.line_up(consumer)
            else:
                dead = queue.first_dead()
                if dead is None:
                    break
                self.drop(dead)
        if ready and (expires := ready.head().expires) is not None:
            self._watch_expiry(queue, expires)

    def expire(self, queue: Queued) -> None:
        """Dead-letter what has expired at the head, also where no clock runs because no link is open."""
        now = self.clock.now()
        while queue.ready and (expires := queue.ready.head().expires) is not None and expires <= now:
            self._bury(queue, queue.ready.pop(), EXPIRED)

    def take(self, queue: Queued, consumer: Consumer) -> Incoming | None:
        """The next message, for a consumer that asks (basic.get)."""
        now = self.clock.now()
        queue.used = now
        self.serve(queue, now)
        incoming = queue.arrival(queue.ready.pop(), consumer) if queue.ready else None
        self.serve(queue, now)
        return incoming

    def _watch_expiry(self, queue: Queued, expires: float) -> None:
        if queue.expiry is not None:
            if queue.expiry_due <= expires:
                return  # fires early, and then looks again
            queue.expiry.cancel()
        queue.expiry_due = expires
        queue.expiry = self.later(expires, partial(self._expire, queue))

    def _expire(self, queue: Queued) -> None:
        queue.expiry = None
        if not queue.deleted:
            self.serve(queue, self.clock.now())

    # -- settling -----------------------------------------------------------------------------------------

    def settle(self, incoming: Incoming, settlement: Settlement) -> bool:
        """Carry out what became of a delivery; False when it is settled already or was handed out again."""
        arrival = incoming.token
        if not isinstance(arrival, Arrival) or not arrival.open:
            return arrival is None  # nothing to settle where the broker forgets at delivery
        queue, consumer, entry = arrival.queue, arrival.consumer, arrival.entry
        arrival.open = False
        del consumer.unsettled[arrival]
        queue.unsettled -= 1
        if type(settlement) is not Ack:
            done = self._carry_out(incoming, queue, entry, settlement)
            if not done and not queue.deleted:
                self._put_back(queue, entry, asked=True)
                self._trim(queue)
        if not consumer.waiting:
            queue.line_up(consumer)
        if queue.ready and not queue.deleted:
            self.serve(queue, self.clock.now())
        return True

    def _carry_out(self, incoming: Incoming, queue: Queued, entry: Entry, settlement: Settlement) -> bool:
        """Put the copy or the message where it belongs; False when it goes back to its queue."""
        if isinstance(settlement, RetryIn):
            copy = retry_copy(incoming)
            if settlement.delay > 0:
                self.later(self.clock.now() + settlement.delay, partial(self._put_delayed, queue, copy))
                return True
            # A full queue that refuses the copy keeps the original.
            return queue.deleted or self.enqueue(queue, copy)
        if isinstance(settlement, DeadLetter):
            return self._dead_letter(incoming, queue, entry, settlement)
        return False

    def _dead_letter(self, incoming: Incoming, queue: Queued, entry: Entry, settlement: DeadLetter) -> bool:
        exchange, topic = queue.properties.dead_letter_exchange, queue.properties.dead_letter_topic
        if exchange is None:
            return True
        if settlement.verbatim:
            self._bury(queue, entry, REJECTED)
            return True
        copy = dead_letter_copy(incoming, settlement, incoming.message.topic if topic is None else topic)
        outcome = self.publish(msgspec.structs.replace(copy, exchange=exchange))
        return not isinstance(outcome, Rejected)

    def _put_delayed(self, queue: Queued, copy: Message) -> None:
        if not queue.deleted:
            # Even into a full queue: the original is gone.
            queue.ready.put(queue.entry(copy, self.clock.now()))
            self.serve(queue, self.clock.now())

    def _put_back(self, queue: Queued, entry: Entry, *, asked: bool) -> None:
        if not queue.put_back(entry, asked=asked):
            self._bury(queue, entry, DELIVERY_LIMIT)

    def _bury(self, queue: Queued, entry: Entry, reason: str) -> None:
        """Dead-letter a message, or drop it when there is nowhere to go."""
        exchange = queue.properties.dead_letter_exchange
        if exchange is None:
            return
        message = dead_lettered(entry.message, queue.name, reason, exchange, queue.properties.dead_letter_topic)
        try:
            targets = self.router.route(exchange, message.topic, message.headers)
        except UnknownExchange:
            return
        for target in targets:
            if reason == REJECTED or not goes_in_circles(message, target.name):
                self.enqueue(target, message)

    # -- consumers and queues -----------------------------------------------------------------------------

    def subscribe(self, consumer: Consumer, name: str, owner: object | None) -> None:
        """Give the consumer the queue's messages from now on."""
        queue = self.queue(name)
        check_owner(queue, owner)
        queue.add(consumer)
        self.serve(queue, self.clock.now())

    def subscribe_replies(self, consumer: Consumer) -> str:
        """Give the consumer an address for direct replies."""
        address = f"{DIRECT_REPLY_TO}.{secrets.token_urlsafe(24)}"
        self.repliers[address] = consumer
        return address

    def cancel(self, consumer: Consumer) -> None:
        """Give the consumer no more; what is at it can still be settled."""
        if self._unsubscribe(consumer):
            self._after_leaving(consumer)

    def drop(self, consumer: Consumer) -> None:
        """The consumer is gone: what is at it goes back, and can be settled no more."""
        # First out of the line, so that it gets nothing back; and others get nothing before all is back.
        subscribed = self._unsubscribe(consumer)
        touched: dict[Queued, None] = {}
        for arrival in consumer.unsettled:
            arrival.open = False
            arrival.queue.unsettled -= 1
            if not arrival.queue.deleted:
                touched[arrival.queue] = None
                self._put_back(arrival.queue, arrival.entry, asked=False)
        consumer.unsettled.clear()
        for queue in touched:
            self._trim(queue)
        if subscribed:
            self._after_leaving(consumer)
        for queue in touched:
            if not queue.deleted:
                self.serve(queue, self.clock.now())

    def _unsubscribe(self, consumer: Consumer) -> bool:
        queue = consumer.queue
        if queue is None or consumer not in queue.consumers:
            return False
        queue.remove(consumer, self.clock.now())
        return True

    def _after_leaving(self, consumer: Consumer) -> None:
        queue = consumer.queue
        assert queue is not None
        if queue.properties.auto_delete and not queue.consumers:
            self.delete_queue(queue)
        else:
            self.serve(queue, self.clock.now())
            self.watch_use(queue)
