"""The testers run a program's own bus in memory, and show what it did."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from eventbus_memory import MemoryTransport

from eventbus import (
    AsyncEventBus,
    Batch,
    ConfigurationError,
    Delivery,
    EventBus,
    PublishUnknown,
    Reject,
    Rejected,
    Request,
    Retry,
    Unroutable,
    event,
    fixed,
)
from eventbus.testing import AsyncBusTester, BusTester, ConformanceSuite, eventually


@event("testing.ordered")
@dataclass(frozen=True)
class Ordered:
    number: int


@event("testing.shipped")
@dataclass(frozen=True)
class Shipped:
    number: int


@event("testing.price-asked")
@dataclass(frozen=True)
class PriceAsked(Request[int]):
    number: int


def shop(url: Any = "memory://never-used", **options: Any) -> EventBus:
    """A bus as a program would have it: orders are shipped, but for some."""
    bus = EventBus(url, service="shop", **options)

    @bus.subscribe(Ordered, retry=Retry(attempts=3, backoff=fixed(10.0)))
    def ship(order: Ordered, delivery: Delivery) -> None:
        if order.number < 0:
            raise Reject("no such order")
        if order.number == 13 and delivery.attempt < 3:
            raise RuntimeError("unlucky")
        if order.number == 14:
            raise RuntimeError("always")
        bus.publish(Shipped(order.number))

    @bus.respond(PriceAsked)
    def price(asked: PriceAsked) -> int:
        return 10 * asked.number

    return bus


def async_shop(**options: Any) -> AsyncEventBus:
    bus = AsyncEventBus("memory://never-used", service="shop", **options)

    @bus.subscribe(Ordered, retry=Retry(attempts=3, backoff=fixed(10.0)))
    async def ship(order: Ordered, delivery: Delivery) -> None:
        if order.number == 13 and delivery.attempt < 3:
            raise RuntimeError("unlucky")
        await bus.publish(Shipped(order.number))

    return bus


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 20))


def test_publishing_returns_when_the_handlers_have_come_to_rest() -> None:
    with BusTester(shop()) as t:
        t.publish(Ordered(1))
        assert t.published[Shipped] == [Shipped(1)]
        assert t.handled[Ordered] == [Ordered(1)]
        assert [message.topic for message in t.published] == ["testing.ordered", "testing.shipped"]
        assert (t.dead_letters, t.errors, t.failed) == ([], [], [])


def test_all_that_a_burst_of_events_sets_off_is_seen() -> None:
    bus = shop()

    @bus.subscribe(Shipped, concurrency=5, settle="receipt")
    def note(shipped: Shipped) -> None:
        if shipped.number < 200:
            bus.publish(Shipped(shipped.number + 100))

    with BusTester(bus) as t:
        bus.publish_many(Ordered(n) for n in range(100, 150))
        t.drain()
        assert sorted(s.number for s in t.published[Shipped]) == [*range(100, 150), *range(200, 250)]


def test_dead_letters_tell_their_reason() -> None:
    with BusTester(shop()) as t:
        t.publish(Ordered(-1))
        (dead,) = t.dead_letters
        assert (dead.subscription, dead.reason, dead.attempts) == ("shop.testing.ordered", "no such order", 1)
        assert [type(error) for error in t.errors] == [Reject]
        assert not t.published[Shipped]


def test_delayed_retries_wait_for_the_clock() -> None:
    with BusTester(shop()) as t:
        t.publish(Ordered(13))
        assert not t.published[Shipped]
        t.advance(10)
        assert not t.published[Shipped]
        t.advance(20)
        assert t.published[Shipped] == [Shipped(13)]
        assert len(t.errors) == 2


def test_retries_in_place_wait_for_the_clock_too() -> None:
    bus, seen = EventBus("memory://never-used", service="shop"), []

    @bus.subscribe(Ordered, ordered=True, retry=Retry(attempts=2, backoff=fixed(60.0)))
    def ship(order: Ordered, delivery: Delivery) -> None:
        seen.append((order.number, delivery.attempt))
        if order.number == 1:
            raise RuntimeError("not yet")

    with BusTester(bus) as t:
        t.publish(Ordered(1), key="a")
        t.publish(Ordered(2), key="a")
        t.publish(Ordered(3), key="b")
        assert seen == [(1, 1), (3, 1)]
        t.advance(60)
        assert seen == [(1, 1), (3, 1), (1, 2), (2, 1)]
        assert [dead.message.headers["eventbus-key"] for dead in t.dead_letters] == ["a"]


def test_a_part_of_a_batch_waits_for_the_clock() -> None:
    bus, seen = EventBus("memory://never-used", service="shop"), []

    @bus.subscribe(Ordered, batch=Batch(size=3, wait=5.0))
    def ship(orders: list[Ordered]) -> None:
        seen.append([order.number for order in orders])

    with BusTester(bus) as t:
        for number in range(5):
            t.publish(Ordered(number))
        assert seen == [[0, 1, 2]]
        t.advance(5.0)
        assert seen == [[0, 1, 2], [3, 4]]


def test_spent_attempts_are_dead_lettered_with_the_handler_s_error() -> None:
    with BusTester(shop()) as t:
        t.publish(Ordered(14))
        t.advance(100)
        t.advance(100)
        (dead,) = t.dead_letters
        assert (dead.error_type, dead.error, dead.attempts) == ("RuntimeError", "always", 3)


def test_expired_messages_are_dead_letters_too() -> None:
    bus = EventBus("memory://never-used", service="shop")
    held: list[Delivery] = []

    @bus.subscribe(Ordered, prefetch=1, settle="manual")
    def hold(order: Ordered, delivery: Delivery) -> None:
        held.append(delivery)

    with BusTester(bus) as t:
        bus.publish(Ordered(1))
        bus.publish(Ordered(2), ttl=2.0)
        eventually(lambda: held)
        t.clock.advance(3.0)
        held[0].ack()
        t.drain()
        assert [(dead.reason, dead.subscription) for dead in t.dead_letters] == [("expired", "shop.testing.ordered")]
        assert t.handled[Ordered] == [Ordered(1)]


def test_scripted_faults_reach_the_publisher() -> None:
    with BusTester(shop()) as t:
        t.faults.nack(topic="testing.ordered")
        with pytest.raises(Rejected):
            t.publish(Ordered(1))
        t.faults.unroutable(topic="testing.ordered")
        with pytest.raises(Unroutable):
            t.publish(Ordered(1), mandatory=True)
        assert [type(error) for _, error in t.failed] == [Rejected, Unroutable]
        t.publish(Ordered(2))
        assert t.published[Shipped] == [Shipped(2)]


def test_a_missing_confirm_is_an_unknown_outcome_without_waiting_for_it() -> None:
    with BusTester(shop(timeout=60.0)) as t:
        t.faults.never_confirm(topic="testing.ordered")
        with pytest.raises(PublishUnknown):
            t.publish(Ordered(1))
        assert t.published[Shipped] == [Shipped(1)], "the broker had taken it"


def test_duplicates_and_lost_connections_show_whether_handlers_bear_them() -> None:
    bus = shop()
    with BusTester(bus) as t:
        t.faults.duplicate(topic="testing.ordered")
        t.publish(Ordered(1))
        assert t.published[Shipped] == [Shipped(1), Shipped(1)]
        t.faults.disconnect()
        eventually(lambda: bus.health().status == "ready")
        t.publish(Ordered(2))
        assert t.published[Shipped][-1] == Shipped(2)


def test_requests_are_answered_within_the_tester() -> None:
    bus = shop()
    with BusTester(bus) as t:
        assert bus.request(PriceAsked(4)) == 40
        t.drain()
        assert t.handled[PriceAsked] == [PriceAsked(4)]


def test_afterwards_the_bus_is_as_it_was() -> None:
    transport = MemoryTransport()
    bus = shop(transport)
    with BusTester(bus) as t:
        bus.publish(Shipped(1))
        assert bus.health().unroutable == 1
    assert bus.transport is transport
    assert bus.health().unroutable == 0
    assert bus._middleware.members == []
    with bus:
        bus.publish(Ordered(5))
        eventually(lambda: bus.health().unroutable == 1)
    assert not t.published[Ordered]
    with BusTester(bus) as again:
        again.publish(Ordered(6))
        assert again.published[Shipped] == [Shipped(6)]


def test_a_running_bus_is_refused() -> None:
    with shop() as bus, pytest.raises(ConfigurationError, match="runs already"), BusTester(bus):
        pass


def test_a_handler_that_never_ends_fails_the_test_in_bounded_time() -> None:
    import threading

    go = threading.Event()
    bus = EventBus("memory://never-used", service="shop")

    @bus.subscribe(Ordered)
    def hang(order: Ordered) -> None:
        go.wait(10)

    with BusTester(bus) as t:
        bus.publish(Ordered(1))
        with pytest.raises(AssertionError, match=r"shop.testing.ordered \(0 waiting, 1 unsettled\)"):
            t.drain(timeout=0.1)
        go.set()


def test_without_the_memory_transport_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r'pip install "eventbus\[testing\]"'):
        BusTester(shop())


def test_async_publishing_returns_when_the_handlers_have_come_to_rest() -> None:
    async def scenario() -> None:
        bus = async_shop()

        @bus.subscribe(Shipped, settle="receipt")
        async def note(shipped: Shipped) -> None:
            await asyncio.sleep(0.01)
            if shipped.number == 1:
                await bus.publish(Shipped(2))

        async with AsyncBusTester(bus) as t:
            await t.publish(Ordered(1))
            assert t.published[Shipped] == [Shipped(1), Shipped(2)]
            assert t.handled[Shipped] == [Shipped(1), Shipped(2)]

    run(scenario())


def test_async_faults_and_clock_work_alike() -> None:
    async def scenario() -> None:
        async with AsyncBusTester(async_shop(timeout=60.0)) as t:
            await t.publish(Ordered(13))
            await t.advance(10)
            await t.advance(20)
            assert t.published[Shipped] == [Shipped(13)]
            t.faults.nack(topic="testing.ordered")
            with pytest.raises(Rejected):
                await t.publish(Ordered(1))
            t.faults.never_confirm(topic="testing.shipped")
            await t.publish(Ordered(2))
            assert [type(error) for error in t.errors] == [RuntimeError, RuntimeError, PublishUnknown]

    run(scenario())


def test_async_batches_and_retries_in_place_wait_for_the_clock() -> None:
    async def main() -> None:
        bus, seen = AsyncEventBus("memory://never-used", service="shop"), []

        @bus.subscribe(Ordered, ordered=True, retry=Retry(attempts=2, backoff=fixed(60.0)))
        async def ship(order: Ordered, delivery: Delivery) -> None:
            seen.append(delivery.attempt)
            raise RuntimeError("not yet")

        @bus.subscribe(Shipped, batch=Batch(size=3, wait=5.0))
        async def note(all_shipped: list[Shipped]) -> None:
            seen.append(len(all_shipped))

        async with AsyncBusTester(bus) as t:
            await t.publish(Ordered(1), key="a")
            await t.publish(Shipped(1))
            assert seen == [1]
            await t.advance(5.0)
            await t.advance(55.0)
            assert seen == [1, 1, 2]

    asyncio.run(main())


def test_async_afterwards_the_bus_is_as_it_was() -> None:
    async def scenario() -> None:
        bus = async_shop()
        transport = bus.transport
        async with AsyncBusTester(bus) as t:
            await t.publish(Ordered(1))
        assert bus.transport is transport
        async with bus:
            with pytest.raises(ConfigurationError, match="runs already"):
                await AsyncBusTester(bus).__aenter__()

    run(scenario())


def test_the_suite_refuses_to_leave_out_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="unknown"):

        class Wrong(ConformanceSuite):
            lacks: ClassVar = {"everything"}


def test_the_suite_names_what_it_leaves_out() -> None:
    class Lacking(ConformanceSuite):
        option_sets: ClassVar = {"one": {}, "two": {}}
        lacks: ClassVar = {"restart", "priority@two"}

    left_out = Lacking._left_out()
    assert left_out == [
        "confirmed_events_outlive_a_restart_of_the_broker on one, two: lacks restart",
        "urgent_messages_are_handed_out_first on two: lacks priority",
    ]
    assert Lacking.test_confirmed_events_outlive_a_restart_of_the_broker is None
    assert callable(Lacking.test_urgent_messages_are_handed_out_first)
