"""Over a real RabbitMQ: the connection goes after the commit and before the ack."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Annotated

import pytest
import sqlalchemy
from eventbus_inbox import AsyncInbox, Inbox
from eventbus_rabbitmq.local_broker import LocalBroker
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from eventbus import AlreadyHandled, AsyncEventBus, Delivery, Depends, EventBus, Middleware
from eventbus.testing import eventually
from tests.inbox.places import INSERT, Ledger, Paid

pytestmark = pytest.mark.timeout(180)


class Ends(Middleware):
    """How deliveries ended: what was raised, and whether the message had come before."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    def handling(self, delivery: Delivery) -> AbstractContextManager[None]:
        return self._watched(delivery.id)

    @contextlib.contextmanager
    def _watched(self, id: str) -> Iterator[None]:
        try:
            yield
        except AlreadyHandled:
            self.seen.append((id, True))
            raise
        else:
            self.seen.append((id, False))


def messages_in(broker: LocalBroker, queue: str) -> int:
    for line in broker.ctl("list_queues", "name", "messages", "--quiet").splitlines():
        name, _, count = line.partition("\t")
        if name == queue:
            return int(count)
    raise AssertionError(f"there is no queue {queue}")


def test_a_connection_that_closes_before_the_ack_makes_no_second_effect(ledger: Ledger, broker: LocalBroker) -> None:
    ends = Ends()
    service = f"bank-{ledger.kind}"
    bus = EventBus(broker.url, service=service, middleware=[ends])
    engine = sqlalchemy.create_engine(ledger.url)
    inbox = Inbox(engine)
    runs: list[str] = []

    @bus.subscribe(Paid)
    def book(event: Paid, delivery: Delivery, db: Annotated[Session, Depends(inbox.session)]) -> None:
        runs.append(delivery.id)
        db.execute(sqlalchemy.text(INSERT))
        broker.ctl("close_all_connections", "test")
        eventually(lambda: bus.health().reconnects >= 1 and bus.health().connected, 60)

    with bus:
        message = bus.message(Paid(5))
        bus.publish(message)
        eventually(lambda: len(ends.seen) >= 2, 60)
        eventually(lambda: messages_in(broker, f"{service}.bank.paid") == 0, 60)
        assert bus.health().settlements_dropped >= 1, "the ack of the first delivery came too late: that was the fault"
    assert runs == [message.id]
    assert ends.seen[0] == (message.id, False)
    assert set(ends.seen[1:]) == {(message.id, True)}
    assert ledger.payments == 1
    assert ledger.ids == [message.id]
    engine.dispose()


@pytest.mark.asyncio
async def test_async_a_connection_that_closes_before_the_ack_makes_no_second_effect(
    async_ledger: Ledger, broker: LocalBroker
) -> None:
    ends = Ends()
    service = f"bank-{async_ledger.async_url.partition(':')[0].partition('+')[2]}"
    bus = AsyncEventBus(broker.url, service=service, middleware=[ends])
    engine = create_async_engine(async_ledger.async_url)
    inbox = AsyncInbox(engine)
    runs: list[str] = []

    @bus.subscribe(Paid)
    async def book(event: Paid, delivery: Delivery, db: Annotated[AsyncSession, Depends(inbox.session)]) -> None:
        runs.append(delivery.id)
        await db.execute(sqlalchemy.text(INSERT))
        await asyncio.to_thread(broker.ctl, "close_all_connections", "test")
        async with asyncio.timeout(60):
            while not (bus.health().reconnects >= 1 and bus.health().connected):
                await asyncio.sleep(0.02)

    async with bus:
        message = bus.message(Paid(5))
        await bus.publish(message)
        async with asyncio.timeout(60):
            while len(ends.seen) < 2:
                await asyncio.sleep(0.02)
        queue = f"{service}.bank.paid"
        await asyncio.to_thread(lambda: eventually(lambda: messages_in(broker, queue) == 0, 60))
        assert bus.health().settlements_dropped >= 1
    assert runs == [message.id]
    assert ends.seen[0] == (message.id, False)
    assert set(ends.seen[1:]) == {(message.id, True)}
    await engine.dispose()
    assert async_ledger.payments == 1
    assert async_ledger.ids == [message.id]


def test_a_publish_sent_twice_has_one_effect(ledger: Ledger, broker: LocalBroker) -> None:
    """As one is that is resent after a lost connection: the ids are the same."""
    service = f"twice-{ledger.kind}"
    bus = EventBus(broker.url, service=service)
    inbox = Inbox(ledger.connect)

    @bus.subscribe(Paid)
    def book(event: Paid, db: Annotated[object, Depends(inbox.connection)]) -> None:
        db.execute(INSERT)  # type: ignore[attr-defined]

    with bus:
        message = bus.message(Paid(5))
        bus.publish(message)
        bus.publish(message)
        bus.publish(Paid(6))
        eventually(lambda: len(ledger.ids) == 2, 30)
        eventually(lambda: messages_in(broker, f"{service}.bank.paid") == 0, 30)
    assert ledger.payments == 2
