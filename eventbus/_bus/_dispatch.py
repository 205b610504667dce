"""One delivery's way through the bus, apart from calling the handler: the part that threads and tasks share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from eventbus._bus._core import BusCore, Served
from eventbus._delivery import BatchContext, Context, Delivery
from eventbus._errors import AlreadyHandled, EventBusError, PublishError, Reject
from eventbus._events import is_event, spec_of
from eventbus._ids import uuid7
from eventbus._inbound import NOTHING_TO_DO, Expired, Ignored, conclude, is_users_fault
from eventbus._message import Incoming, Message
from eventbus._replies import failure_message, reply_allowed, reply_message
from eventbus._settlement import ACK, REQUEUE, DeadLetter, Settlement, error_text

log = logging.getLogger("eventbus.handler")

REPLY_TIMEOUT = 30.0

Publish = Callable[..., None]


class Dispatch:
    """Opens and finishes deliveries for a bus: decode, outcome, reply, settlement."""

    def __init__(self, bus: BusCore, *, settle: Callable[[Incoming, Settlement], None], publish: Publish) -> None:
        self._bus = bus
        self._middleware = bus._middleware
        self._link_settle = settle
        self._link_publish = publish
        self.around = self._middleware.around
        # How to write the answers of each class, and what they are called.
        self._answers: dict[type, tuple[Callable[[Any], bytes], str]] = {}

    def open(self, served: Served, incoming: Incoming) -> Delivery:
        """A delivery for an arrival."""
        delivery = Delivery(incoming, served.subscription, self.settle)
        if self._middleware.watches_received:
            self._middleware.received(delivery)
        return delivery

    def read(self, served: Served, delivery: Delivery) -> tuple[Any, Context]:
        """The event of a delivery.

        :raises DecodingError: it does not fit. :raises Reject: a request whose answer may not be sent.
        """
        event, message = served.reader.read(delivery.incoming)
        delivery.message = message
        if delivery.subscription.responder and message.reply_to is not None:
            allowed = self._bus._reply_addresses
            if not reply_allowed(message.reply_to, allowed):
                raise Reject("the request's reply address is not one that this bus may answer to (reply_addresses=...)")
        return event, Context(self._bus, delivery)

    def batch_context(self, deliveries: list[Delivery]) -> BatchContext:
        """The context of a batch."""
        return BatchContext(self._bus, deliveries)

    def finish(self, delivery: Delivery, error: BaseException | None, result: Any, report: bool = True) -> None:
        """Settle by how the handling ended; a responder's answer goes out first."""
        subscription = delivery.subscription
        if subscription.responder and delivery.message.reply_to is not None:
            error = self._answer(delivery, error, result)
            if error is None:
                return
        if error is not None:
            if report:
                self._report(delivery, error)
        elif subscription.settle == "manual":
            return
        if error is None or subscription.settle == "receipt":
            # At most once: the broker has forgotten the message, so a failure is only reported.
            self.settle(delivery, ACK)
        else:
            self.settle(delivery, conclude(subscription, delivery.incoming, error))

    def settle(self, delivery: Delivery, settlement: Settlement) -> None:
        """Settle once; what comes later is ignored."""
        if delivery.settled is not None:
            return
        delivery.settled = settlement
        if isinstance(settlement, DeadLetter):
            self._report_dead(delivery, settlement)
        if delivery.subscription.settle != "receipt":
            self._link_settle(delivery.incoming, settlement)
        if self._middleware.watches_settled:
            self._middleware.settled(delivery, settlement, time.monotonic() - delivery.began)

    def give_back(self, incoming: Incoming) -> None:
        """Return a delivery that no handler has seen."""
        self._link_settle(incoming, REQUEUE)

    # -- replies ----------------------------------------------------------------------------------------

    def _answer(self, delivery: Delivery, error: BaseException | None, result: Any) -> BaseException | None:
        """Send the reply; the request is settled when it is confirmed. Gives back what stays to be settled."""
        settlement = conclude(delivery.subscription, delivery.incoming, error)
        if settlement is not ACK or isinstance(error, NOTHING_TO_DO):
            return error
        request = delivery.message
        if not reply_allowed(request.reply_to or "", self._bus._reply_addresses):
            return error
        if error is None:
            try:
                reply = self._reply(request, result)
            except EventBusError as failed:
                error = failed
        if error is not None:
            self._report(delivery, error)
            reply = failure_message(request, error, source=self._bus._settings.service, id=uuid7())
        reply = self._middleware.outgoing(reply)
        began = time.monotonic()

        def done(failed: PublishError | None) -> None:
            self._middleware.published(reply, failed, time.monotonic() - began)
            if failed is not None:
                log.info("%s: the reply did not reach its requester: %s", delivery.subscription.name, failed)
            self.settle(delivery, ACK)

        self._link_publish(reply, deadline=began + REPLY_TIMEOUT, done=done)
        return None

    def _reply(self, request: Message, result: Any) -> Message:
        cls = type(result)
        known = self._answers.get(cls)
        if known is None:
            name = spec_of(cls).type if is_event(cls) else cls.__name__
            known = self._answers[cls] = (self._bus._codecs.get("application/json").encoder(cls), name)
        encode, name = known
        return reply_message(request, encode(result), type=name, source=self._bus._settings.service, id=uuid7())

    # -- telling ----------------------------------------------------------------------------------------

    def _report(self, delivery: Delivery, error: BaseException) -> None:
        name, subscription = type(error).__qualname__, delivery.subscription
        if isinstance(error, Expired):
            log.info("%s: a request came after its requester gave up; not run", subscription.name)
        elif isinstance(error, Ignored):
            log.debug("%s: ignored type %r", subscription.name, delivery.type[:128])
        elif isinstance(error, AlreadyHandled):
            log.info("%s: %s has been handled before; acked", subscription.name, delivery.id)
        elif is_users_fault(error):
            # The traceback belongs to the user's code; ours above it says nothing more.
            log.warning(
                "%s: the handler failed on %s (attempt %d): %s: %s",
                subscription.name, delivery.id, delivery.attempt, name, error_text(error), exc_info=error,
            )  # fmt: skip
        else:
            log.info("%s: %s on %s: %s", subscription.name, name, delivery.id, error_text(error))

    def _report_dead(self, delivery: Delivery, settlement: DeadLetter) -> None:
        subscription = delivery.subscription
        where = subscription.queue.dead_letter or "no dead-letter queue of ours"
        log.error(
            "%s: dead-lettered %s to %s: %s%s",
            subscription.name, delivery.id, where, settlement.reason,
            f" ({settlement.error_type}: {settlement.error})" if settlement.error else "",
        )  # fmt: skip
