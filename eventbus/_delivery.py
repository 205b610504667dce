"""Deliveries as handlers see them: the message, its history, and (settled by hand) its outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from eventbus._errors import ConfigurationError
from eventbus._keys import key_of
from eventbus._message import HeaderValue, Incoming, Message
from eventbus._settlement import ACK, REQUEUE, DeadLetter, RetryIn, Settlement

if TYPE_CHECKING:
    from eventbus._subscription import Subscription


class Delivery:
    """One arrival of a message at a subscription.

    The four settling methods are for subscriptions with ``settle="manual"``, and for single members of a batch; they
    return at once, work from any thread (sync bus) or on the loop (async bus), and the first one counts.
    """

    __slots__ = ("_settle", "began", "incoming", "message", "settled", "subscription")

    def __init__(
        self, incoming: Incoming, subscription: Subscription, settle: Callable[[Delivery, Settlement], None]
    ) -> None:
        self.incoming = incoming
        self.message: Message = incoming.message
        self.subscription = subscription
        self.settled: Settlement | None = None
        self.began = time.monotonic()
        self._settle = settle

    @property
    def id(self) -> str:
        """The message's id: the same in every copy and redelivery."""
        return self.message.id

    @property
    def type(self) -> str:
        """Its CloudEvents type; empty when a foreign client sent none."""
        return self.message.type

    @property
    def topic(self) -> str:
        """The topic that it was published with."""
        return self.message.topic

    @property
    def key(self) -> str | None:
        """Its ordering key."""
        return key_of(self.message)

    @property
    def exchange(self) -> str:
        """The exchange that it was published to."""
        return self.message.exchange

    @property
    def headers(self) -> Mapping[str, HeaderValue]:
        """The application's headers."""
        return self.message.headers

    @property
    def attempt(self) -> int:
        """Counts from 1; above 1 this is a retry or a redelivery."""
        return self.incoming.attempt

    @property
    def first_seen(self) -> float | None:
        """When its first attempt failed, in Unix seconds; None in the first attempt."""
        return self.incoming.first_seen

    @property
    def redelivered(self) -> bool:
        """The broker has handed this message out before, without a settlement."""
        return self.incoming.redelivered

    @property
    def queue(self) -> str:
        """The queue that it came from."""
        return self.incoming.queue

    def ack(self) -> None:
        """Handled."""
        self._by_hand(ACK)

    def retry(self, delay: float = 0.0) -> None:
        """Failed: the same group gets it again after ``delay`` seconds, as one attempt more."""
        self._by_hand(RetryIn(delay=delay))

    def requeue(self) -> None:
        """Not handled, through no fault of the message: back to the queue for any consumer of the group."""
        self._by_hand(REQUEUE)

    def dead_letter(self, reason: str) -> None:
        """Given up: to the group's dead-letter queue."""
        self._by_hand(DeadLetter(reason=reason))

    def _by_hand(self, settlement: Settlement) -> None:
        if self.subscription.settle != "manual" and self.subscription.batch is None:
            raise ConfigurationError(
                f'subscription {self.subscription.name!r} settles by itself; give it settle="manual" to settle by '
                "hand, or raise RetryLater or Reject"
            )
        self._settle(self, settlement)

    def __repr__(self) -> str:
        return f"<Delivery {self.type or 'untyped'} {self.id} topic={self.topic!r} attempt={self.attempt}>"


class Context:
    """What a handler may ask for by annotating a parameter with it: the bus, the delivery, its subscription.

    Of a batch, ``delivery`` and ``message`` are the first ones.
    """

    __slots__ = ("bus", "delivery")

    def __init__(self, bus: Any, delivery: Delivery) -> None:
        self.bus = bus
        self.delivery = delivery

    @property
    def deliveries(self) -> list[Delivery]:
        """All deliveries that the handler got: one, unless it takes batches."""
        return [self.delivery]

    @property
    def message(self) -> Message:
        """The message as it came."""
        return self.delivery.message

    @property
    def subscription(self) -> str:
        """Name of the subscription."""
        return self.delivery.subscription.name


class BatchContext(Context):
    """The context of a batch."""

    __slots__ = ("_all",)

    def __init__(self, bus: Any, deliveries: list[Delivery]) -> None:
        super().__init__(bus, deliveries[0])
        self._all = deliveries

    @property
    def deliveries(self) -> list[Delivery]:
        """The deliveries of the batch, in the order of its events."""
        return self._all
