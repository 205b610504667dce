"""Relays as processes over a real RabbitMQ: several at once, killed, stopped, and without a broker for a while."""

from __future__ import annotations

import asyncio
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from eventbus_outbox import AsyncRelay, Relay
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import AsyncEventBus, EventBus, LoginRefused
from eventbus.testing import eventually
from tests.outbox.collecting import Collector, Shop
from tests.outbox.places import Ordered, Place
from tests.postgres import LocalPostgres

ROOT = Path(__file__).parents[2]

MAX_BYTES = 1 << 20

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def collector(broker: LocalBroker, request: pytest.FixtureRequest) -> Iterator[Collector]:
    with Collector(broker.url, secrets.token_hex(4)) as collector:
        yield collector


class Program:
    """A relay as a process."""

    def __init__(self, how: str, broker: LocalBroker, database: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.outbox.programs", how, broker.url, database],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def stop(self) -> int:
        """SIGTERM; gives how many messages it says that it has relayed."""
        self.process.send_signal(signal.SIGTERM)
        told = self.line()
        assert self.process.wait(60) == 0
        return int(told)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def programs(*hows: str, broker: LocalBroker, database: str) -> Iterator[list[Program]]:
    running = [Program(how, broker, database) for how in hows]
    try:
        yield running
    finally:
        for program in running:
            program.close()


def test_a_relay_killed_between_confirm_and_delete_is_followed_by_another_with_the_same_ids(
    place: Place, broker: LocalBroker, collector: Collector
) -> None:
    shop = Shop(place)
    ids = shop.add(Ordered("ada", 1), Ordered("ada", 2), Ordered("bob", 1))
    with programs("die", broker=broker, database=place.url) as (dying,):
        assert dying.process.wait(60) == -signal.SIGKILL
    eventually(lambda: len(collector.got) == 3, 30)
    assert shop.rows() == 3, "nothing was deleted"
    with programs("relay", broker=broker, database=place.url) as (following,):
        eventually(lambda: shop.rows() == 0, 60)
        assert following.line() == "relaying"
        assert following.stop() == 3
    eventually(lambda: len(collector.got) == 6, 30)
    assert sorted(id for id, _, _ in collector.got) == sorted(ids * 2)
    assert collector.first_times() == {"ada": [1, 2], "bob": [1]}


def test_four_relays_at_once_lose_nothing_and_keep_the_order_of_each_key(
    place: Place, broker: LocalBroker, collector: Collector
) -> None:
    shop = Shop(place)
    kinds = [("relay", place.url), ("async", place.async_url)] * 2
    relays = [Program(how, broker, url) for how, url in kinds]
    try:
        for relay in relays:
            assert relay.line() == "relaying"
        for number in range(100):
            shop.add(*(Ordered(f"c{key}", number) for key in range(20)))
        eventually(lambda: shop.rows() == 0, 90)
        eventually(lambda: len(collector.got) >= 2000, 60)
        relayed = [relay.stop() for relay in relays]
    finally:
        for relay in relays:
            relay.close()
    assert len(collector.got) == 2000, "nobody died, so nothing came twice"
    assert collector.first_times() == {f"c{key}": list(range(100)) for key in range(20)}
    assert sum(relayed) == 2000
    assert sum(count > 0 for count in relayed) >= 2, "they shared the work"


def test_when_one_of_them_is_killed_in_the_middle_the_others_take_over(
    place: Place, broker: LocalBroker, collector: Collector
) -> None:
    shop = Shop(place)
    with programs("slow", "slow", "slow", broker=broker, database=place.url) as relays:
        for relay in relays:
            assert relay.line() == "relaying"
        shop.add(*(Ordered(f"c{key}", number) for number in range(30) for key in range(20)))
        for victim, enough in ((relays[0], 40), (relays[1], 200)):
            eventually(lambda n=enough: len(collector.got) > n, 60)  # type: ignore[misc]
            assert shop.rows() > 0, "the fault would be none"
            victim.process.kill()
        eventually(lambda: shop.rows() == 0, 120)
    eventually(lambda: sum(map(len, collector.first_times().values())) == 600, 60)
    assert collector.first_times() == {f"c{key}": list(range(30)) for key in range(20)}


def test_a_relay_that_slept_past_its_lease_disturbs_nothing(
    postgres: LocalPostgres, broker: LocalBroker, collector: Collector
) -> None:
    place = Place.postgresql(postgres)  # in SQLite it could sleep with the one write lock in its hand
    shop = Shop(place)
    with programs("slow", broker=broker, database=place.url) as (sleeper,):
        assert sleeper.line() == "relaying"
        shop.add(*(Ordered(f"c{key}", number) for number in range(20) for key in range(20)))
        eventually(lambda: len(collector.got) > 40, 60)
        assert shop.rows() > 0, "the fault would be none"
        sleeper.process.send_signal(signal.SIGSTOP)
        try:
            with programs("slow", broker=broker, database=place.url) as (other,):
                eventually(lambda: shop.rows() == 0, 120)
                assert other.line() == "relaying"
                relayed = other.stop()
        finally:
            sleeper.process.send_signal(signal.SIGCONT)
        relayed += sleeper.stop()
    assert relayed >= 400
    eventually(lambda: sum(map(len, collector.first_times().values())) == 400, 60)
    assert collector.first_times() == {f"c{key}": list(range(20)) for key in range(20)}


@pytest.fixture(scope="module")
def mortal() -> Iterator[LocalBroker]:
    """A broker of our own to stop."""
    with LocalBroker() as broker:
        yield broker


def test_what_is_added_while_the_broker_is_down_comes_when_it_is_up(place: Place, mortal: LocalBroker) -> None:
    shop = Shop(place)
    bus = EventBus(mortal.url, service="relay", timeout=2)
    relay = Relay(bus, place.url, poll=0.1)
    with Collector(mortal.url, f"down-{place.kind}") as collector:
        with relay:
            shop.add(Ordered("ada", 0))
            eventually(lambda: len(collector.got) == 1, 60)
            mortal.sync()
            mortal.stop()
            shop.add(*(Ordered("ada", number) for number in range(1, 50)))
            eventually(lambda: relay.status().state == "waiting for the broker", 60)
            assert relay.lag().rows == 49
            mortal.start()
            eventually(lambda: shop.rows() == 0, 90)
        eventually(lambda: collector.first_times() == {"ada": list(range(50))}, 60)
        assert relay.status().set_aside == 0
    bus.stop()


@pytest.mark.parametrize("how", ["relay", "async"])
def test_a_second_signal_ends_a_relay_at_once(postgres: LocalPostgres, mortal: LocalBroker, how: str) -> None:
    place = Place.postgresql(postgres)
    shop = Shop(place)
    url = place.url if how == "relay" else place.async_url
    with programs(how, broker=mortal, database=url) as (relay,):
        assert relay.line() == "relaying"
        mortal.pause()
        try:
            shop.add(Ordered("ada", 1))
            eventually(lambda: claimed(place) == 1, 60)  # it is on its way to a broker that says nothing
            relay.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                relay.process.wait(1)
            began = time.monotonic()
            relay.process.send_signal(signal.SIGTERM)
            assert relay.process.wait(60) == 1
            assert time.monotonic() - began < 20, "the publish would have had its outcome by then"
        finally:
            mortal.resume()
    assert shop.rows() == 1


def claimed(place: Place) -> int:
    with place.session() as session:
        sql = sqlalchemy.text("SELECT count(*) FROM eventbus_outbox WHERE claim IS NOT NULL")
        return int(session.execute(sql).scalar_one())


@pytest.mark.asyncio
async def test_async_what_is_added_while_the_broker_is_down_comes_when_it_is_up(
    postgres: LocalPostgres, mortal: LocalBroker
) -> None:
    place = Place.postgresql(postgres)
    shop = Shop(place)
    bus = AsyncEventBus(mortal.url, service="relay", timeout=2)
    relay = AsyncRelay(bus, place.async_url, poll=0.1)

    async def until(check: Any, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not check():
                await asyncio.sleep(0.05)

    with Collector(mortal.url, "down-async") as collector:
        async with relay:
            shop.add(Ordered("ada", 0))
            await until(lambda: len(collector.got) == 1)
            await asyncio.to_thread(mortal.sync)
            await asyncio.to_thread(mortal.stop)
            shop.add(*(Ordered("ada", number) for number in range(1, 50)))
            await until(lambda: relay.status().state == "waiting for the broker")
            assert (await relay.lag()).rows == 49
            await asyncio.to_thread(mortal.start)
            await until(lambda: shop.rows() == 0, 90)
        await until(lambda: collector.first_times() == {"ada": list(range(50))})
    await bus.stop()


def test_what_the_broker_itself_finds_hopeless_is_set_aside(
    place: Place, broker: LocalBroker, collector: Collector
) -> None:
    shop = Shop(place)
    bus = EventBus(broker.url, service="relay")
    relay = Relay(bus, place.url, poll=0.1)
    with place.session() as session:
        big = shop.outbox.add(session, {"what": "x" * (MAX_BYTES + 1)}, topic="shop.big")
        missing = shop.outbox.add(session, {"what": "x"}, topic="shop.lost", exchange="nowhere", key="ada")
    with relay:
        shop.add(*(Ordered("bob", number) for number in range(20)))
        shop.add(Ordered("ada", 1))  # behind the one that is set aside
        eventually(lambda: relay.status().set_aside == 2, 60)
        eventually(lambda: collector.first_times() == {"bob": list(range(20))}, 60)
        eventually(lambda: relay.lag().rows == 1, 60)
        with place.session() as session:
            errors = {failure.message_id: failure.error for failure in shop.outbox.failures(session)}
            assert errors[big.id].startswith("MessageTooLarge: ")
            assert errors[missing.id].startswith("ExchangeMissing: ")
            assert shop.outbox.discard(session) == 2
        eventually(lambda: collector.first_times().get("ada") == [1], 60)
    bus.stop()


def test_a_login_that_is_refused_ends_the_relay_with_its_error(place: Place, broker: LocalBroker) -> None:
    Shop(place)
    bus = EventBus(broker.url.replace("guest:guest", "guest:wrong"), service="relay")
    relay = Relay(bus, place.url)
    with pytest.raises(LoginRefused):
        relay.run()
    assert relay.status().state == "failed"
    assert "wrong" not in (relay.status().error or "")
    bus.stop()
