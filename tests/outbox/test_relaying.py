"""Relays against a broker in memory that has bad days, and databases that do."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
import sqlalchemy
from eventbus_memory import MemoryTransport
from eventbus_outbox import AsyncOutbox, AsyncRelay, Outbox, Relay, RelayStatus
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from eventbus import AsyncEventBus, ConfigurationError, EventBus, fixed
from eventbus.testing import eventually
from tests.outbox.places import Market, Ordered, Place
from tests.postgres import LocalPostgres

SOON = fixed(0.05)


class Shop:
    """An application with an outbox, and its relay."""

    def __init__(self, place: Place, market: Market, *, bus: EventBus | None = None, **options: Any) -> None:
        self.place = place
        self.bus = bus or market.bus()
        self.outbox = Outbox(self.bus)
        with place.session() as session:
            self.outbox.create(session)
        self.relay = Relay(self.bus, place.url, **{"poll": 0.05, "backoff": SOON, **options})

    def add(self, *numbers: int, customer: str = "ada", key: str | None = None, **options: Any) -> list[str]:
        """In one transaction; gives the ids."""
        if key is not None:
            options["key"] = key
        with self.place.session() as session:
            return [self.outbox.add(session, Ordered(customer, n), **options).id for n in numbers]

    def lag(self) -> Any:
        with self.place.session() as session:
            return self.outbox.lag(session)

    def failures(self) -> list[Any]:
        with self.place.session() as session:
            return self.outbox.failures(session)

    def is_empty(self) -> bool:
        return bool(self.lag().rows == 0 and self.lag().set_aside == 0)


@pytest.fixture
def shop(place: Place, market: Market) -> Iterator[Shop]:
    shop = Shop(place, market)
    yield shop
    shop.relay.stop()
    shop.bus.stop()


def test_the_order_of_adding_is_the_order_of_each_key(shop: Shop, market: Market) -> None:
    for number in range(0, 100, 2):
        shop.add(number, customer="ada", key="ada")
        shop.add(number + 1, customer="bob", key="bob")
    with shop.relay:
        eventually(shop.is_empty, 30)
    eventually(lambda: len(market.messages) == 100)
    assert [n for n in market.numbers if n % 2 == 0] == list(range(0, 100, 2))
    assert [n for n in market.numbers if n % 2] == list(range(1, 100, 2))


def test_a_refused_message_stops_its_key_and_not_the_others(shop: Shop, market: Market) -> None:
    nack = market.faults.nack(topic="shop.ordered.ada")
    ids = shop.add(1, 2, 3, customer="ada", key="ada")
    shop.add(4, 5, customer="bob", key="bob")
    shop.add(6, customer="eve")
    with shop.relay:
        eventually(shop.is_empty, 30)
    eventually(lambda: len(market.messages) == 6)
    assert nack.fired == 1
    assert [m.id for m in market.messages if m.topic == "shop.ordered.ada"] == ids
    assert set(market.numbers[:3]) == {4, 5, 6}, "the others did not wait"
    assert shop.relay.status().failed == 1
    assert shop.relay.status().relayed == 6


def test_a_message_without_a_confirm_is_published_again_with_its_id(place: Place, market: Market) -> None:
    bus = market.bus(timeout=0.3)
    shop = Shop(place, market, bus=bus, lease=10)
    market.faults.never_confirm(topic="#", taken=True)
    (given,) = shop.add(1)
    with shop.relay:
        eventually(shop.is_empty, 30)
    eventually(lambda: len(market.messages) == 2)
    assert [m.id for m in market.messages] == [given, given]
    bus.stop()


def test_while_the_bus_refuses_nothing_counts_against_the_messages(shop: Shop, market: Market) -> None:
    refused = market.faults.refuse(times=None)
    shop.add(1, 2, key="ada")
    with shop.relay:
        eventually(lambda: refused.fired >= 2)
        eventually(lambda: shop.relay.status().state == "waiting for the broker")
        assert shop.relay.status().failed == 0
        assert not shop.failures()
        assert shop.lag().rows == 2
        market.faults.clear()
        eventually(shop.is_empty, 40)
    eventually(lambda: market.numbers == [1, 2])


def test_a_message_that_no_try_would_mend_is_set_aside_with_its_error(place: Place, market: Market) -> None:
    small = EventBus(market.transport, service="small", max_body=200)
    shop = Shop(place, market)
    relay = Relay(small, place.url, poll=0.05, backoff=SOON)
    with place.session() as session:
        big = shop.outbox.add(session, {"number": 1, "what": "x" * 500}, topic="shop.big", key="ada")
        missing = shop.outbox.add(session, {"number": 2}, topic="shop.lost", exchange="nowhere")
        shop.outbox.add(session, Ordered("ada", 3), key="ada")
        shop.outbox.add(session, Ordered("bob", 4), key="bob")
        sql = "INSERT INTO eventbus_outbox (message_id, message, created) VALUES ('x', :body, 1)"
        session.execute(sqlalchemy.text(sql), {"body": b"not ours"})
    with relay:
        eventually(lambda: relay.status().set_aside == 3, 20)
        eventually(lambda: shop.lag().rows == 1, what="only the message behind the one that was set aside waits")
    assert market.numbers == [4]
    found = {failure.message_id: failure for failure in shop.failures()}
    assert found[big.id].error.startswith("MessageTooLarge: ")
    assert found[big.id].key == "ada"
    assert found[missing.id].error.startswith("ExchangeMissing: ")
    assert found["x"].error.startswith("DecodingError: ")
    assert all(failure.set_aside and failure.attempts == 1 for failure in found.values())
    assert shop.lag().set_aside == 3
    with place.session() as session:
        assert shop.outbox.discard(session, ids=[found["x"].id, 12345]) == 1
        assert shop.outbox.retry(session, ids=[found[big.id].id]) == 1
    with shop.relay:  # whose bus has a larger limit
        eventually(lambda: shop.lag().rows == 0, 20)
    assert market.numbers == [4, 1, 3], "the key goes on in its order"
    with place.session() as session:
        assert shop.outbox.discard(session) == 1
    assert shop.is_empty()
    small.stop()
    shop.bus.stop()


def test_a_key_may_go_on_without_what_was_set_aside(place: Place, market: Market) -> None:
    shop = Shop(place, market, on_set_aside="go-on")
    with place.session() as session:
        shop.outbox.add(session, {"number": 1}, topic="shop.lost", exchange="nowhere", key="ada")
    shop.add(2, key="ada")
    with shop.relay:
        eventually(lambda: shop.lag().rows == 0, 20)
        shop.add(3, key="ada")
        eventually(lambda: shop.lag().rows == 0, 20)
    eventually(lambda: market.numbers == [2, 3])
    assert shop.lag().set_aside == 1
    shop.bus.stop()


def test_an_event_that_somebody_must_get_is_kept_until_somebody_is_there(shop: Shop, market: Market) -> None:
    with shop.place.session() as session:
        shop.outbox.add(session, {"number": 7}, topic="lonely", exchange="amq.topic", mandatory=True)
        shop.outbox.add(session, {"number": 8}, topic="lonely", exchange="amq.topic")
    with shop.relay:
        eventually(lambda: [f.error.partition(":")[0] for f in shop.failures()] == ["Unroutable"], 20)
        late = EventBus(market.transport, service="late")
        got: list[Any] = []
        late.subscribe(pattern="lonely", exchange="amq.topic", name="late")(lambda event: got.append(event["number"]))
        with late:
            eventually(lambda: got == [7], 20)
        eventually(shop.is_empty)


def test_two_claims_at_once_never_share_a_row_nor_a_key(place: Place, market: Market) -> None:
    shop = Shop(place, market)
    for number in range(60):
        shop.add(number, key=f"k{number % 6}")
        shop.add(100 + number)
    from eventbus_outbox._table import OutboxTable
    from eventbus_outbox.sql import database, run

    table = OutboxTable("eventbus_outbox")
    claims: list[list[Any]] = []

    def claim(name: str) -> None:
        source = database(place.connect)
        names = (f"{name}{turn}" for turn in range(5))
        claims.extend(run(source, partial(table.claim, claim=each, size=10, lease=60)) for each in names)

    threads = [threading.Thread(target=claim, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [row.id for rows in claims for row in rows]
    assert len(ids) == len(set(ids))
    for key in {f"k{n}" for n in range(6)}:
        assert sum(1 for rows in claims if any(row.key == key for row in rows)) <= 1


def test_a_lease_that_has_ended_is_taken_over_and_the_late_one_deletes_nothing(place: Place, market: Market) -> None:
    from eventbus_outbox._table import OutboxTable, Verdict
    from eventbus_outbox.sql import database, run

    shop = Shop(place, market)
    shop.add(1, 2, key="ada")
    table, source = OutboxTable("eventbus_outbox"), database(place.connect)
    late = run(source, lambda d: table.claim(d, claim="late", size=10, lease=0.2))
    assert len(late) == 2
    assert not run(source, lambda d: table.claim(d, claim="early", size=10, lease=60)), "the lease holds"
    taken = eventually(lambda: run(source, lambda d: table.claim(d, claim="next", size=10, lease=60)))
    assert [row.id for row in taken] == [row.id for row in late]
    verdict = Verdict(confirmed=[late[0].id], released=[late[1].id])
    assert run(source, lambda d: table.settle(d, claim="late", verdict=verdict)) == 1
    assert shop.lag().rows == 2
    assert not run(source, lambda d: table.claim(d, claim="early", size=10, lease=60)), "nor did it release anything"


def test_new_rows_wake_a_relay_that_listens(postgres: LocalPostgres, market: Market) -> None:
    place = Place.postgresql(postgres)
    shop = Shop(place, market, poll=60.0)
    for database in (place.url, place.connect):
        relay = Relay(shop.bus, database, poll=60.0)
        with relay:
            shop.add(0)
            eventually(shop.is_empty, 20)
            idle_long(relay)
            eventually(lambda r=relay: r._pace._empty > LONG, 20)  # type: ignore[misc]
            began = time.monotonic()
            shop.add(1)
            eventually(shop.is_empty, 40)
            assert time.monotonic() - began < 40, "the next look by the clock was later"
    shop.bus.stop()


LONG = 40


def idle_long(relay: Any) -> None:
    """As if it had looked for hours: its next pause is the longest."""
    relay._pace._empty = LONG


@pytest.mark.asyncio
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_new_rows_wake_an_async_relay_that_listens(postgres: LocalPostgres, market: Market, driver: str) -> None:
    place = Place.postgresql(postgres, async_driver=driver)
    bus = AsyncEventBus(market.transport, service="shop")
    outbox = AsyncOutbox(bus)
    engine = create_async_engine(place.async_url)
    async with engine.begin() as connection:
        await outbox.create(connection)
    relay = AsyncRelay(bus, engine, poll=60.0)
    async with relay, asyncio.timeout(90):
        while relay._pace._empty < 1:
            await asyncio.sleep(0.02)
        idle_long(relay)
        while relay._pace._empty <= LONG:
            await asyncio.sleep(0.02)
        began = time.monotonic()
        async with AsyncSession(engine) as session, session.begin():
            await outbox.add(session, Ordered("ada", 1))
        while relay.status().relayed < 1:
            await asyncio.sleep(0.02)
        assert time.monotonic() - began < 40
    await engine.dispose()
    await bus.stop()


def test_a_relay_outlives_its_database(tmp_path: Any, market: Market) -> None:
    with LocalPostgres() as server:
        place = Place.postgresql(server)
        for kind in (place.url, place.connect):
            shop = Shop(place, market)
            relay = Relay(shop.bus, kind, poll=0.05)
            with relay:
                shop.add(1)
                eventually(shop.is_empty, 20)
                server.stop()
                eventually(lambda r=relay: r.status().state == "waiting for the database", 20)  # type: ignore[misc]
                assert relay.status().error is not None
                server.start()
                shop.add(2)
                eventually(shop.is_empty, 60)
                eventually(lambda r=relay: r.status().state == "relaying", 20)  # type: ignore[misc]
            assert relay.status().relayed == 2
            shop.bus.stop()


def test_what_was_confirmed_is_deleted_when_the_database_is_back(postgres: LocalPostgres, market: Market) -> None:
    place = Place.postgresql(postgres)
    shop = Shop(place, market)
    shop.add(1)
    refused = threading.Event()

    def connect() -> Any:
        return Stubborn(place.connect(), refused)

    relay = Relay(shop.bus, connect, poll=0.05, listen=False)
    with relay:
        eventually(refused.is_set)
        eventually(shop.is_empty, 20)
    assert len(market.messages) == 1, "it was not published again"
    assert relay.status() == RelayStatus(state="stopped", relayed=1)
    shop.bus.stop()


class Stubborn:
    """A connection whose first DELETE fails, as one does that is broken off in that moment."""

    __module__ = "psycopg"

    def __init__(self, connection: Any, refused: threading.Event) -> None:
        self._connection = connection
        self._refused = refused

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self) -> Any:
        return StubbornCursor(self._connection.cursor(), self._refused)


class StubbornCursor:
    def __init__(self, cursor: Any, refused: threading.Event) -> None:
        self._cursor = cursor
        self._refused = refused

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, values: Any) -> None:
        if sql.startswith("DELETE") and not self._refused.is_set():
            self._refused.set()
            raise psycopg.OperationalError("the connection was broken off")
        self._cursor.execute(sql, values)


def test_a_relay_waits_for_a_database_that_has_no_table_yet(place: Place, market: Market) -> None:
    bus = market.bus()
    relay = Relay(bus, place.url, poll=0.05)
    with relay:
        eventually(lambda: relay.status().state == "waiting for the database", 20)
        assert "eventbus_outbox" in (relay.status().error or "")
        assert "SELECT" not in (relay.status().error or ""), "the statement and its values are nobody's business"
        shop = Shop(place, market, bus=bus)
        shop.add(1)
        eventually(lambda: relay.status().relayed == 1, 60)
    bus.stop()


def test_lag_tells_how_much_waits_and_for_how_long(shop: Shop) -> None:
    assert (shop.relay.lag().rows, shop.relay.lag().age) == (0, 0.0)
    shop.add(1, 2, 3)
    eventually(lambda: shop.relay.lag().age > 0.05)
    assert shop.relay.lag().rows == 3
    assert shop.relay.lag().age < 60


def test_a_stop_waits_for_what_is_under_way_and_gives_the_rest_back(place: Place, market: Market) -> None:
    bus = market.bus(timeout=0.5)
    shop = Shop(place, market, bus=bus, lease=10)
    silent = market.faults.never_confirm(topic="shop.ordered.slow", taken=False)
    shop.add(1, customer="slow", key="slow")
    shop.add(2, 3, customer="ada", key="slow")
    shop.relay.start()
    eventually(lambda: silent.fired == 1)
    assert shop.relay.stop(20)
    assert shop.relay.status().state == "stopped"
    assert shop.lag().rows == 3
    assert not market.messages
    shop.relay.start()
    eventually(shop.is_empty, 20)
    shop.relay.stop()
    assert market.numbers == [1, 2, 3]
    bus.stop()


def test_a_stopped_bus_ends_its_relay(shop: Shop) -> None:
    shop.relay.start()
    eventually(lambda: shop.relay.status().state == "relaying", 20)
    shop.bus.stop()
    eventually(lambda: shop.relay.status().state == "stopped", 20)


def test_settings_that_do_not_fit_are_refused(place: Place) -> None:
    bus = EventBus(MemoryTransport(), service="shop", timeout=10)
    for options, text in (
        ({"lease": 12.0}, "lease"), ({"batch": 0}, "batch"), ({"poll": 0}, "poll"),
        ({"on_set_aside": "what"}, "on_set_aside"), ({"table": "a b"}, "table"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=text):
            Relay(bus, place.url, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="not one of SQLAlchemy") as told:
        Relay(bus, "postgres:secret@nowhere")
    assert "secret" not in str(told.value)
    with pytest.raises(ConfigurationError, match="for asyncio"):
        Relay(bus, "sqlite+aiosqlite://")
    with pytest.raises(ConfigurationError, match="PostgreSQL or SQLite"):
        Relay(bus, sqlalchemy.create_engine("mysql+pymysql://", module=sqlite3))
    with pytest.raises(ConfigurationError, match="function"):
        Relay(bus, 5)
