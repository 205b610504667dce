"""Events are stored in the application's transaction, over whatever connection it has."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import sqlalchemy
from eventbus_outbox import AsyncOutbox, AsyncRelay, Outbox, Relay
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from eventbus import AsyncEventBus, ConfigurationError, EncodingError, EventBus, Exchange, event
from eventbus.testing import eventually
from tests.outbox.places import Market, Ordered, Place
from tests.postgres import LocalPostgres

KINDS = ["session", "connection", "dbapi"]


class Undone(Exception):
    """Why a transaction is rolled back."""


def prepared(place: Place, bus: Any) -> Outbox:
    outbox = Outbox(bus)
    with place.session() as session:
        outbox.create(session)
        session.execute(sqlalchemy.text("CREATE TABLE orders (number INTEGER)"))
    return outbox


def orders(place: Place) -> int:
    with place.session() as session:
        return int(session.execute(sqlalchemy.text("SELECT count(*) FROM orders")).scalar_one())


def insert(connection: Any, kind: str) -> None:
    """The application's own work."""
    sql = "INSERT INTO orders VALUES (1)"
    if kind == "dbapi":
        connection.cursor().execute(sql)
    else:
        connection.execute(sqlalchemy.text(sql))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_committed_is_relayed_with_its_id(place: Place, market: Market, kind: str) -> None:
    bus = market.bus()
    outbox = prepared(place, bus)
    with place.transaction(kind) as connection:
        insert(connection, kind)
        message = outbox.add(connection, Ordered("ada", 1))
    with Relay(bus, place.url, poll=0.05):
        eventually(lambda: market.messages)
        eventually(lambda: _lag(outbox, place) == 0)
    assert [m.id for m in market.messages] == [message.id]
    assert market.messages[0].topic == "shop.ordered.ada"
    assert orders(place) == 1
    bus.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollback_leaves_nothing_to_relay(place: Place, market: Market, kind: str) -> None:
    outbox = prepared(place, market.bus())
    with pytest.raises(Undone), place.transaction(kind) as connection:
        insert(connection, kind)
        outbox.add(connection, Ordered("ada", 1))
        raise Undone
    assert orders(place) == 0
    assert _lag(outbox, place) == 0


def _lag(outbox: Outbox, place: Place) -> int:
    with place.session() as session:
        return outbox.lag(session).rows


def test_a_dbapi_relay_needs_no_sqlalchemy_engine(place: Place, market: Market) -> None:
    bus = market.bus()
    outbox = prepared(place, bus)
    relay = Relay(bus, place.connect, poll=0.05)
    with relay:
        with place.transaction("dbapi") as connection:
            for number in range(5):
                outbox.add(connection, Ordered("ada", number), key="ada")
        eventually(lambda: len(market.messages) == 5)
        eventually(lambda: relay.lag().rows == 0)
    assert market.numbers == [0, 1, 2, 3, 4]
    assert relay.status().relayed == 5
    bus.stop()


def test_all_that_a_publish_may_say_comes_through(place: Place, market: Market) -> None:
    bus = market.bus()
    outbox = prepared(place, bus)
    headers = {
        "text": "ö", "bytes": b"\x00\xff", "number": 2**40, "float": 0.5, "yes": True, "none": None,
        "price": Decimal("12.50"), "when": datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC),
        "deep": {"list": [1, Decimal("2")]},
    }  # fmt: skip
    with place.session() as session:
        given = outbox.add(
            session, {"number": 1}, topic="shop.plain", type="shop.plain-thing", headers=headers, priority=3,
            persistent=False, ttl=60.0, correlation_id="c1", key="k1",
        )  # fmt: skip
    with Relay(bus, place.url, poll=0.05):
        eventually(lambda: market.messages)
    (come,) = market.messages
    for name in given.__struct_fields__:
        assert getattr(come, name) == getattr(given, name), name
    bus.stop()


def test_the_relays_bus_learns_of_exchanges_that_only_the_application_knows(place: Place, market: Market) -> None:
    special = Exchange(name="shop.special", kind="fanout")

    @event("shop.opened", exchange=special)
    @dataclass(frozen=True)
    class Opened:
        number: int

    outbox = prepared(place, market.bus())
    with place.session() as session:
        outbox.add(session, Opened(1))
    relaying = EventBus(market.transport, service="relay")
    relay = Relay(relaying, place.url, poll=0.05)
    with relay:
        eventually(lambda: relay.status().relayed == 1)
    assert special in market.transport.broker.exchanges()
    relaying.stop()


def test_connections_that_commit_by_themselves_are_refused(place: Place, market: Market) -> None:
    outbox = prepared(place, market.bus())
    alone: Any = place.connect()
    if place.kind == "sqlite":
        alone.isolation_level = None
    else:
        alone.autocommit = True
    with pytest.raises(ConfigurationError, match="autocommit"):
        outbox.add(alone, Ordered("ada", 1))
    alone.execute("BEGIN")  # a transaction by hand is one all the same
    outbox.add(alone, Ordered("ada", 2))
    alone.execute("COMMIT")
    alone.close()
    engine = sqlalchemy.create_engine(place.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(ConfigurationError, match="autocommit"):
        outbox.add(connection, Ordered("ada", 3))
    engine.dispose()
    assert _lag(outbox, place) == 1


def test_a_scoped_session_will_do(place: Place, market: Market) -> None:
    outbox = prepared(place, market.bus())
    engine = sqlalchemy.create_engine(place.url)
    session = scoped_session(sessionmaker(engine))
    outbox.add(session, Ordered("ada", 1))
    session.commit()
    session.remove()
    engine.dispose()
    assert _lag(outbox, place) == 1


def test_rows_of_another_shape_trouble_nobody(place: Place, market: Market) -> None:
    bus = market.bus()
    outbox = prepared(place, bus)

    def connect() -> Any:
        connection = place.connect()
        connection.row_factory = sqlite3.Row if place.kind == "sqlite" else psycopg.rows.dict_row
        return connection

    relay = Relay(bus, connect, poll=0.05)
    with relay:
        with place.transaction("dbapi") as connection:
            outbox.add(connection, Ordered("ada", 1))
        eventually(lambda: relay.status().relayed == 1)
    bus.stop()


def test_what_cannot_be_stored_is_the_callers_error(place: Place, market: Market) -> None:
    outbox = prepared(place, market.bus())
    with place.session() as session:
        with pytest.raises(EncodingError, match="stored"):
            outbox.add(session, Ordered("ada", 1), headers={"what": object()})
        with pytest.raises(ConfigurationError, match="no timeout"):
            outbox.add(session, Ordered("ada", 1), timeout=5)
    with pytest.raises(ConfigurationError, match="Session or Connection"):
        outbox.add(object(), Ordered("ada", 1))
    assert _lag(outbox, place) == 0


def test_a_table_is_named_by_letters_digits_and_underscores() -> None:
    bus = EventBus("memory://names", service="shop")
    for name in ("", "drop table", "a;b", "a.b.c", "1a", 'a"b', "a" * 50):
        with pytest.raises(ConfigurationError, match="table"):
            Outbox(bus, table=name)


def test_a_table_in_another_schema(postgres: LocalPostgres, market: Market) -> None:
    place = Place.postgresql(postgres)
    bus = market.bus()
    outbox = Outbox(bus, table="side.outbox")
    with place.session() as session:
        session.execute(sqlalchemy.text("CREATE SCHEMA side"))
        outbox.create(session)
        outbox.create(session)  # there is one already
        outbox.add(session, Ordered("ada", 1))
    relay = Relay(bus, place.url, table="side.outbox", poll=0.05)
    with relay:
        eventually(lambda: relay.status().relayed == 1)
    bus.stop()


# -- asyncio ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def async_transaction(place: Place, kind: str) -> AsyncIterator[Any]:
    engine = create_async_engine(place.async_url)
    try:
        if kind == "connection":
            async with engine.begin() as connection:
                yield connection
        else:
            async with AsyncSession(engine) as session, session.begin():
                yield session
    finally:
        await engine.dispose()


@pytest.fixture(params=["sqlite", "asyncpg", "psycopg"])
def async_place(request: pytest.FixtureRequest, tmp_path: Any) -> Place:
    if request.param == "sqlite":
        return Place.sqlite(tmp_path)
    return Place.postgresql(request.getfixturevalue("postgres"), async_driver=request.param)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["session", "connection"])
async def test_async_what_is_committed_is_relayed_and_what_is_rolled_back_is_not(
    async_place: Place, market: Market, kind: str
) -> None:
    bus = AsyncEventBus(market.transport, service="shop")
    outbox = AsyncOutbox(bus)
    async with async_transaction(async_place, kind) as connection:
        await outbox.create(connection)
    with pytest.raises(Undone):
        async with async_transaction(async_place, kind) as connection:
            await outbox.add(connection, Ordered("ada", 1))
            raise Undone
    async with async_transaction(async_place, kind) as connection:
        message = await outbox.add(connection, Ordered("ada", 2), key="ada")
        assert (await outbox.lag(connection)).rows == 1
    relay = AsyncRelay(bus, async_place.async_url, poll=0.05)
    async with relay:
        await _until(lambda: relay.status().relayed == 1)
        assert (await relay.lag()).rows == 0
    eventually(lambda: [m.id for m in market.messages] == [message.id])
    await bus.stop()


@pytest.mark.asyncio
async def test_each_kind_of_session_belongs_to_its_kind_of_outbox(async_place: Place, market: Market) -> None:
    bus = AsyncEventBus(market.transport, service="shop")
    engine = create_async_engine(async_place.async_url)
    async with AsyncSession(engine) as session:
        with pytest.raises(ConfigurationError, match="asyncio"):
            Outbox(bus).add(session, Ordered("ada", 1))
    with place_session(async_place) as plain, pytest.raises(ConfigurationError, match="AsyncSession"):
        await AsyncOutbox(bus).add(plain, Ordered("ada", 1))
    with pytest.raises(ConfigurationError, match="asyncio"):
        Relay(EventBus(market.transport, service="shop"), engine)
    with pytest.raises(ConfigurationError, match="AsyncEngine"):
        AsyncRelay(bus, sqlalchemy.create_engine(async_place.url))
    alone = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with alone.connect() as connection:
        with pytest.raises(ConfigurationError, match="autocommit"):
            await AsyncOutbox(bus).add(connection, Ordered("ada", 1))
    await engine.dispose()


def place_session(place: Place) -> Session:
    return Session(sqlalchemy.create_engine(place.url))


async def _until(check: Any) -> None:
    import asyncio

    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.01)
