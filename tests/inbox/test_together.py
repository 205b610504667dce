"""Inbox and outbox in one transaction: consume, change and publish as one."""

from dataclasses import dataclass
from typing import Annotated

import sqlalchemy
from eventbus_inbox import Inbox
from eventbus_outbox import Outbox, Relay
from sqlalchemy.orm import Session

from eventbus import Delivery, Depends, EventBus, Retry, event
from eventbus.testing import BusTester, eventually
from tests.inbox.places import INSERT, Ledger, Paid


@event("bank.receipt-written")
@dataclass(frozen=True)
class ReceiptWritten:
    amount: int


def test_a_handler_that_fails_and_a_message_that_comes_again_publish_once(ledger: Ledger) -> None:
    bus = EventBus("memory://bank", service="bank", retry=Retry(attempts=3, backoff=None))
    engine = sqlalchemy.create_engine(ledger.url)
    inbox, outbox = Inbox(engine), Outbox(bus)
    with Session(engine) as session, session.begin():
        outbox.create(session)

    @bus.subscribe(Paid)
    def book(event: Paid, delivery: Delivery, session: Annotated[Session, Depends(inbox.session)]) -> None:
        session.execute(sqlalchemy.text(INSERT))
        outbox.add(session, ReceiptWritten(event.amount))
        if delivery.attempt == 1:
            raise RuntimeError("no")

    with BusTester(bus) as t:
        message = bus.message(Paid(5))
        t.publish(message)
        t.publish(message)
        relay = Relay(bus, engine, poll=0.05)
        with relay:
            eventually(lambda: relay.status().relayed == 1, 20)
            eventually(lambda: relay.lag().rows == 0, 20)
        assert t.published[ReceiptWritten] == [ReceiptWritten(5)]
    assert ledger.payments == 1
    assert relay.status().relayed == 1
    engine.dispose()
