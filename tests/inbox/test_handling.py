"""Effect and id are committed together, so that a message that comes again has no second effect."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
import sqlalchemy
from eventbus_inbox import AsyncInbox, Inbox
from eventbus_memory import FaultPlan, MemoryTransport
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from eventbus import (
    AsyncEventBus,
    ConfigurationError,
    Delivery,
    Depends,
    EventBus,
    Message,
    Reject,
    Retry,
    RetryLater,
    fixed,
)
from eventbus.testing import AsyncBusTester, BusTester, eventually
from tests.inbox.places import INSERT, Ledger, Paid

AT_ONCE = Retry(attempts=3, backoff=None)


def bank() -> EventBus:
    return EventBus("memory://bank", service="bank", retry=AT_ONCE)


def async_bank() -> AsyncEventBus:
    return AsyncEventBus("memory://bank", service="bank", retry=AT_ONCE)


@contextlib.contextmanager
def inbox_of(ledger: Ledger, kind: str, **options: Any) -> Iterator[tuple[Inbox, Any]]:
    """An inbox over this kind of database, and a dependency that gives what statements are executed on."""
    if kind == "dbapi":
        inbox = Inbox(ledger.connect, **options)
        yield inbox, inbox.connection
        return
    engine = sqlalchemy.create_engine(ledger.url)
    if kind == "connection":
        inbox = Inbox(engine, **options)
        yield inbox, inbox.connection
    elif kind == "sessionmaker":
        inbox = Inbox(sessionmaker(engine, expire_on_commit=False), **options)
        yield inbox, inbox.session
    else:
        inbox = Inbox(engine, **options)
        yield inbox, inbox.session
    engine.dispose()


def pay(connection: Any) -> None:
    """The effect."""
    if hasattr(connection, "cursor"):
        connection.cursor().execute(INSERT)
    else:
        connection.execute(sqlalchemy.text(INSERT))


def paid(bus: EventBus | AsyncEventBus) -> Message:
    return bus.message(Paid(5))


KINDS = ["session", "sessionmaker", "connection", "dbapi"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_that_comes_again_has_no_second_effect(ledger: Ledger, kind: str) -> None:
    bus = bank()
    ran: list[str] = []
    with inbox_of(ledger, kind) as (_, dependency):

        @bus.subscribe(Paid)
        def book(event: Paid, delivery: Delivery, db: Annotated[Any, Depends(dependency)]) -> None:
            ran.append(delivery.id)
            pay(db)

        with BusTester(bus) as t:
            message = paid(bus)
            for _ in range(3):
                t.publish(message)
            t.publish(paid(bus))
            assert len(ran) == 2
            assert not t.dead_letters
    assert ledger.payments == 2
    assert ledger.ids == ran
    assert ledger.ids[0] == message.id


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_fails_leaves_neither_effect_nor_id(ledger: Ledger, kind: str) -> None:
    bus = bank()
    attempts: list[int] = []
    failures: list[Exception] = [RuntimeError("no"), RetryLater(0), Reject("never")]
    with inbox_of(ledger, kind) as (_, dependency):

        @bus.subscribe(Paid)
        def book(event: Paid, delivery: Delivery, db: Annotated[Any, Depends(dependency)]) -> None:
            attempts.append(delivery.attempt)
            pay(db)
            if failures:
                raise failures[delivery.attempt - 1]

        with BusTester(bus) as t:
            message = paid(bus)
            t.publish(message)
            assert attempts == [1, 2, 3]
            assert [dead.message.id for dead in t.dead_letters] == [message.id]
            assert ledger.payments == 0
            assert ledger.ids == []
            failures.clear()
            t.publish(message)  # as a replay of the dead letter does
    assert attempts == [1, 2, 3, 1]
    assert ledger.payments == 1
    assert ledger.ids == [message.id]


def test_what_failed_once_is_booked_by_its_second_attempt(ledger: Ledger) -> None:
    bus = bank()
    with inbox_of(ledger, "session") as (_, dependency):

        @bus.subscribe(Paid)
        def book(event: Paid, delivery: Delivery, db: Annotated[Session, Depends(dependency)]) -> None:
            pay(db)
            if delivery.attempt == 1:
                raise RuntimeError("no")

        with BusTester(bus) as t:
            t.publish(paid(bus))
            assert not t.dead_letters
    assert ledger.payments == 1
    assert len(ledger.ids) == 1


def test_every_subscription_handles_a_message_for_itself(ledger: Ledger) -> None:
    bus = bank()
    ran: list[str] = []
    with inbox_of(ledger, "session") as (_, dependency):

        @bus.subscribe(Paid, group="books")
        def book(event: Paid, db: Annotated[Session, Depends(dependency)]) -> None:
            ran.append("book")

        @bus.subscribe(Paid, group="mails")
        def mail(event: Paid, db: Annotated[Session, Depends(dependency)]) -> None:
            ran.append("mail")

        @bus.subscribe(Paid, broadcast=True, name="show")
        def show(event: Paid, db: Annotated[Session, Depends(dependency)]) -> None:
            ran.append("show")

        with BusTester(bus) as t:
            message = paid(bus)
            t.publish(message)
            t.publish(message)
    assert sorted(ran) == ["book", "mail", "show"]


def test_an_id_is_one_of_its_source(ledger: Ledger) -> None:
    ours, theirs = bank(), EventBus("memory://bank", service="other")
    ran: list[str] = []
    with inbox_of(ledger, "session") as (_, dependency):

        @ours.subscribe(Paid)
        def book(event: Paid, delivery: Delivery, db: Annotated[Session, Depends(dependency)]) -> None:
            ran.append(delivery.message.source)

        with BusTester(ours) as t:
            for bus in (ours, theirs, ours):
                t.publish(msgspec.structs.replace(paid(bus), id="1"))
    assert ran == ["bank", "other"]


@pytest.mark.parametrize("id", ["x" * 5000, "with \x00 in it", "ö" * 300, "' OR 1=1 --"])
def test_ids_of_strangers_may_be_anything(ledger: Ledger, id: str) -> None:
    bus = bank()
    ran: list[str] = []
    with inbox_of(ledger, "session") as (_, dependency):

        @bus.subscribe(Paid)
        def book(event: Paid, delivery: Delivery, db: Annotated[Session, Depends(dependency)]) -> None:
            ran.append(delivery.id)

        with BusTester(bus) as t:
            message = msgspec.structs.replace(paid(bus), id=id)
            t.publish(message)
            t.publish(message)
            t.publish(msgspec.structs.replace(message, id=id + "!"))
            assert not t.dead_letters
    assert ran == [id, id + "!"]


def test_a_delivery_that_comes_while_the_first_is_handled_waits_for_its_end(ledger: Ledger) -> None:
    faults = FaultPlan()
    transport = MemoryTransport(faults=faults)
    bus = EventBus(transport, service="bank", retry=Retry(attempts=20, backoff=fixed(0.05)))
    ran: list[str] = []
    acked: list[Any] = []
    with inbox_of(ledger, "dbapi") as (_, dependency):

        @bus.subscribe(Paid, concurrency=4)
        def book(event: Paid, delivery: Delivery, db: Annotated[Any, Depends(dependency)]) -> None:
            ran.append(delivery.id)
            pay(db)
            if len(ran) == 1:
                # The connection goes: the message is handed out again while it is handled here.
                faults.disconnect()
                eventually(lambda: bus.health().handlers_in_flight >= 2, 20)

        with bus:
            bus.publish(Paid(5))
            eventually(lambda: bus.health().handlers_in_flight == 0 and ledger.payments > 0, 30)
            acked.append(transport.broker.queue("bank.bank.paid"))
            eventually(lambda: acked[0].ready == 0 and acked[0].unsettled == 0, 30)
    assert len(ran) == 1
    assert ledger.payments == 1


def test_by_hand_in_a_transaction_of_your_own(ledger: Ledger) -> None:
    bus = bank()
    engine = sqlalchemy.create_engine(ledger.url)
    inbox = Inbox(engine)
    firsts: list[bool] = []

    @bus.subscribe(Paid)
    def book(event: Paid, delivery: Delivery) -> None:
        with Session(engine) as session, session.begin():
            first = inbox.record(session, delivery)
            firsts.append(first)
            if first:
                pay(session)

    with BusTester(bus) as t:
        message = paid(bus)
        t.publish(message)
        t.publish(message)
    assert firsts == [True, False]
    assert ledger.payments == 1
    engine.dispose()


def test_a_pool_may_lend_the_connections(ledger: Ledger) -> None:
    bus = bank()
    lent: list[str] = []

    @contextlib.contextmanager
    def lend() -> Iterator[Any]:
        connection = ledger.connect()
        try:
            yield connection
        finally:
            lent.append("came back")
            connection.close()

    inbox = Inbox(lend)

    @bus.subscribe(Paid)
    def book(event: Paid, db: Annotated[Any, Depends(inbox.connection)]) -> None:
        pay(db)

    with BusTester(bus) as t:
        message = paid(bus)
        t.publish(message)
        t.publish(message)
    assert ledger.payments == 1
    assert lent == ["came back", "came back"]


def test_a_commit_that_fails_fails_the_delivery(ledger: Ledger) -> None:
    bus = bank()
    ledger.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    deferred = "CREATE TABLE children (id INTEGER REFERENCES parents(id) DEFERRABLE INITIALLY DEFERRED)"
    ledger.execute(deferred)

    def connect() -> Any:
        connection = ledger.connect()
        if ledger.kind == "sqlite":
            connection.execute("PRAGMA foreign_keys = ON")
        return connection

    inbox = Inbox(connect)
    attempts: list[int] = []

    @bus.subscribe(Paid)
    def book(event: Paid, delivery: Delivery, db: Annotated[Any, Depends(inbox.connection)]) -> None:
        attempts.append(delivery.attempt)
        db.execute("INSERT INTO children VALUES (77)")  # found out at the commit

    with BusTester(bus) as t:
        t.publish(paid(bus))
        assert attempts == [1, 2, 3]
        assert len(t.dead_letters) == 1
    assert ledger.ids == []


def test_connections_in_autocommit_are_put_into_a_transaction(ledger: Ledger) -> None:
    bus = bank()

    def connect() -> Any:
        connection = ledger.connect()
        if ledger.kind == "sqlite":
            connection.isolation_level = None
        else:
            connection.autocommit = True
        return connection

    inbox = Inbox(connect)

    @bus.subscribe(Paid)
    def book(event: Paid, delivery: Delivery, db: Annotated[Any, Depends(inbox.connection)]) -> None:
        pay(db)
        if delivery.attempt < 3:
            raise RuntimeError("no")

    with BusTester(bus) as t:
        t.publish(paid(bus))
    assert ledger.payments == 1
    assert len(ledger.ids) == 1


def test_what_is_no_database_is_refused(ledger: Ledger) -> None:
    engine = create_async_engine(ledger.async_url)
    for database in (5, object(), engine):
        with pytest.raises(ConfigurationError, match="inbox"):
            Inbox(database)
    with pytest.raises(ConfigurationError, match="inbox"):
        AsyncInbox(sqlalchemy.create_engine(ledger.url))
    for options in ({"keep": 0}, {"clean_every": -1}, {"table": "a b"}):
        with pytest.raises(ConfigurationError):
            Inbox(ledger.url, **options)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            AsyncInbox(engine, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no sessions"):
        next(iter(Inbox(ledger.connect).session(None)))  # type: ignore[arg-type]


# -- asyncio ----------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["session", "sessionmaker", "connection"])
async def test_async_a_message_that_comes_again_has_no_second_effect(async_ledger: Ledger, kind: str) -> None:
    bus = async_bank()
    engine = create_async_engine(async_ledger.async_url)
    inbox = AsyncInbox(async_sessionmaker(engine) if kind == "sessionmaker" else engine)
    dependency = inbox.connection if kind == "connection" else inbox.session
    ran: list[int] = []

    @bus.subscribe(Paid)
    async def book(
        event: Paid, delivery: Delivery, db: Annotated[AsyncSession | AsyncConnection, Depends(dependency)]
    ) -> None:
        ran.append(delivery.attempt)
        await db.execute(sqlalchemy.text(INSERT))
        if delivery.attempt == 1:
            raise RuntimeError("no")

    async with AsyncBusTester(bus) as t:
        message = paid(bus)
        await t.publish(message)
        await t.publish(message)
        assert not t.dead_letters
    assert ran == [1, 2]
    await engine.dispose()
    assert async_ledger.payments == 1
    assert async_ledger.ids == [message.id]


@pytest.mark.asyncio
async def test_async_a_handler_that_is_cancelled_leaves_neither_effect_nor_id(async_ledger: Ledger) -> None:
    bus = async_bank()
    engine = create_async_engine(async_ledger.async_url)
    inbox = AsyncInbox(engine)

    @bus.subscribe(Paid, timeout=0.2)
    async def book(event: Paid, db: Annotated[AsyncSession, Depends(inbox.session)]) -> None:
        await db.execute(sqlalchemy.text(INSERT))
        await asyncio.sleep(60)

    async with AsyncBusTester(bus) as t:
        await t.publish(paid(bus))
        assert len(t.dead_letters) == 1
    await engine.dispose()
    assert async_ledger.payments == 0
    assert async_ledger.ids == []


@pytest.mark.asyncio
async def test_plain_functions_on_the_async_bus_use_the_plain_inbox(ledger: Ledger) -> None:
    bus = async_bank()
    with inbox_of(ledger, "session") as (_, dependency):

        @bus.subscribe(Paid)
        def book(event: Paid, db: Annotated[Session, Depends(dependency)]) -> None:
            pay(db)

        async with AsyncBusTester(bus) as t:
            message = paid(bus)
            await t.publish(message)
            await t.publish(message)
    assert ledger.payments == 1
