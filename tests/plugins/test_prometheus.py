"""Prometheus metrics of both buses, as a scraper sees them."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from eventbus_memory import MemoryTransport
from eventbus_prometheus import Endpoint, PrometheusMiddleware, serve
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from eventbus import (
    AsyncEventBus,
    Delivery,
    EventBus,
    PublishError,
    Reject,
    Retry,
    Spool,
    event,
)
from eventbus.transport import LinkStatus, Phase
from tests.spool.places import FlakyTransport


@event("customers.registered")
@dataclass(frozen=True, kw_only=True)
class Registered:
    name: str


SENT = "messaging_client_sent_messages_total"
CONSUMED = "messaging_client_consumed_messages_total"
TYPE = {"event_type": "customers.registered"}
WELCOME = {"subscription": "emails.customers.registered"}


class Scrape:
    """One scrape of an endpoint."""

    def __init__(self, url: str) -> None:
        with urllib.request.urlopen(url, timeout=5) as response:
            self.text: str = response.read().decode()
        self.samples = [s for family in text_string_to_metric_families(self.text) for s in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Sum of the samples with these labels; None when there is none."""
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found) if found else None

    def labels(self, name: str) -> set[str]:
        """Values of the label ``name`` in all samples."""
        return {s.labels[name] for s in self.samples if name in s.labels}


class Numbers:
    """A registry with its endpoint."""

    def __init__(self, max_types: int = 200) -> None:
        self.registry = CollectorRegistry()
        self.middleware = PrometheusMiddleware(registry=self.registry, max_types=max_types)
        self.endpoint: Endpoint = serve(0, registry=self.registry)

    def scrape(self) -> Scrape:
        return Scrape(self.endpoint.url)

    def becomes(self, expected: float | None, name: str, **labels: str) -> bool:
        return eventually(lambda: self.scrape().value(name, **labels) == expected)


@pytest.fixture
def numbers() -> Iterator[Numbers]:
    made = Numbers()
    yield made
    made.endpoint.close()


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


def eventually(condition: Callable[[], bool], seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_a_sync_bus_counts_what_it_publishes_and_handles(numbers: Numbers, url: str) -> None:
    bus = EventBus(url, service="emails", middleware=[numbers.middleware])
    bus.subscribe(Registered)(lambda event: None)
    with bus:
        for name in ("Ada", "Bo", "Cleo"):
            bus.publish(Registered(name=name))
        assert numbers.becomes(3, CONSUMED, outcome="acked", **WELCOME, **TYPE)
        scrape = numbers.scrape()
    assert scrape.value(SENT, outcome="confirmed", **TYPE) == 3
    assert scrape.value("messaging_client_operation_duration_seconds_count", operation="publish") == 3
    assert scrape.value("eventbus_confirm_latency_seconds_count", **TYPE) == 3
    assert scrape.value("messaging_process_duration_seconds_count", outcome="returned", **WELCOME, **TYPE) == 3
    assert scrape.value("eventbus_handlers_in_flight", **WELCOME) == 0


@pytest.mark.asyncio
async def test_an_async_bus_counts_what_it_publishes_and_handles(numbers: Numbers, url: str) -> None:
    bus = AsyncEventBus(url, service="emails", middleware=[numbers.middleware])
    done = asyncio.Event()

    @bus.subscribe(Registered)
    async def welcome(event: Registered) -> None:
        done.set()

    async with bus:
        await bus.publish(Registered(name="Ada"))
        await asyncio.wait_for(done.wait(), 5)
    scrape = numbers.scrape()  # the bus has drained, so everything is settled
    assert scrape.value(SENT, outcome="confirmed", **TYPE) == 1
    assert scrape.value(CONSUMED, outcome="acked", **WELCOME, **TYPE) == 1
    assert scrape.value("messaging_process_duration_seconds_count", outcome="returned", **WELCOME) == 1


@pytest.mark.asyncio
async def test_one_object_serves_both_buses_at_once(numbers: Numbers, url: str) -> None:
    threads = EventBus(url, service="signup", middleware=[numbers.middleware])
    tasks = AsyncEventBus(url, service="emails", middleware=[numbers.middleware])
    done = asyncio.Event()

    @tasks.subscribe(Registered)
    async def welcome(event: Registered) -> None:
        done.set()

    async with tasks:
        await asyncio.to_thread(threads.publish, Registered(name="Ada"))
        await asyncio.wait_for(done.wait(), 5)
        up = numbers.scrape().value("eventbus_connection_up")
        await asyncio.to_thread(threads.stop)
    assert up == 2
    assert numbers.scrape().value(SENT, outcome="confirmed", **TYPE) == 1
    assert numbers.scrape().value(CONSUMED, outcome="acked", **WELCOME) == 1


def test_retries_and_dead_letters_are_counted_with_the_error_that_caused_them(numbers: Numbers, url: str) -> None:
    bus = EventBus(url, service="emails", middleware=[numbers.middleware], retry=Retry(attempts=3, backoff=None))

    @bus.subscribe(Registered)
    def welcome(event: Registered) -> None:
        raise LookupError("no such address")

    with bus:
        bus.publish(Registered(name="Ada"))
        assert numbers.becomes(1, "eventbus_dead_lettered_total", error_type="LookupError", **WELCOME, **TYPE)
    scrape = numbers.scrape()
    assert scrape.value("eventbus_retries_total", **WELCOME, **TYPE) == 2
    assert scrape.value(CONSUMED, outcome="retried", **WELCOME) == 2
    assert scrape.value(CONSUMED, outcome="dead_lettered", **WELCOME) == 1
    assert scrape.value("messaging_process_duration_seconds_count", outcome="raised", **WELCOME) == 3


def test_a_handler_past_its_timeout_is_counted(numbers: Numbers, url: str) -> None:
    bus = EventBus(url, service="emails", middleware=[numbers.middleware])
    leave = threading.Event()

    @bus.subscribe(Registered, timeout=0.02)
    def welcome(event: Registered) -> None:
        leave.wait(20)

    with bus:
        bus.publish(Registered(name="Ada"))
        assert numbers.becomes(1, "eventbus_handlers_overdue_total", **WELCOME)
        assert bus.health().handlers_overdue == 1
        leave.set()
        assert eventually(lambda: bus.health().handlers_overdue == 0)


def test_consumers_that_the_broker_will_soon_cut_off_are_told(numbers: Numbers, url: str) -> None:
    bus = EventBus(url, service="emails")
    numbers.middleware.link_changed(bus, LinkStatus(phase=Phase.READY, overlong=1))
    assert numbers.scrape().value("eventbus_consumers_overlong") == 1


def test_a_handler_at_work_is_in_flight(numbers: Numbers, url: str) -> None:
    bus = EventBus(url, service="emails", middleware=[numbers.middleware])
    entered, leave = threading.Event(), threading.Event()

    @bus.subscribe(Registered)
    def welcome(event: Registered) -> None:
        entered.set()
        leave.wait(5)

    with bus:
        bus.publish(Registered(name="Ada"))
        assert entered.wait(5)
        during = numbers.scrape().value("eventbus_handlers_in_flight", **WELCOME)
        leave.set()
    assert (during, numbers.scrape().value("eventbus_handlers_in_flight", **WELCOME)) == (1, 0)


@pytest.mark.parametrize("outcome", ["not_sent", "unroutable", "rejected", "unknown"])
def test_every_outcome_of_a_publish_is_a_label(outcome: str, numbers: Numbers) -> None:
    transport = MemoryTransport()
    faults = transport.faults
    {
        "not_sent": faults.refuse,
        "unroutable": faults.unroutable,
        "rejected": faults.nack,
        "unknown": faults.never_confirm,
    }[outcome]()
    bus = EventBus(transport, service="signup", middleware=[numbers.middleware], timeout=0.2, mandatory=True)
    with bus, pytest.raises(PublishError):
        bus.publish(Registered(name="Ada"))
    scrape = numbers.scrape()
    assert scrape.value(SENT, outcome=outcome, **TYPE) == 1
    assert scrape.value("messaging_client_operation_duration_seconds_count", outcome=outcome) == 1
    assert scrape.value("eventbus_confirm_latency_seconds_count", **TYPE) is None


def test_reconnects_of_several_buses_add_up(numbers: Numbers) -> None:
    transport = MemoryTransport()
    one = EventBus(transport, service="one", middleware=[numbers.middleware])
    two = EventBus(transport, service="two", middleware=[numbers.middleware])
    two.subscribe(Registered)(lambda event: None)
    with one, two:
        transport.faults.disconnect()
        assert numbers.becomes(2, "eventbus_reconnects_total")
        assert numbers.becomes(2, "eventbus_connection_up")
        assert numbers.becomes(1, "eventbus_consumer_up", subscription="two.customers.registered")
        assert len(numbers.scrape().labels("bus")) == 2


def test_invented_types_of_strangers_count_as_other(numbers: Numbers, url: str) -> None:
    bus = EventBus(url, service="emails", middleware=[numbers.middleware])

    @bus.subscribe(Registered)
    def welcome(event: Registered) -> None:
        raise AssertionError("none of them is a registration")

    with EventBus(url, service="stranger") as stranger, bus:
        for number in range(20):
            stranger.publish({"name": "x"}, topic="customers.registered", type=f"invented.{number}")
        assert numbers.becomes(20, CONSUMED, outcome="dead_lettered", event_type="other", **WELCOME)
    assert numbers.scrape().labels("event_type") == {"other"}


def test_types_seen_by_a_pattern_are_bounded(url: str) -> None:
    numbers = Numbers(max_types=10)
    bus = EventBus(url, service="audit", middleware=[numbers.middleware])
    bus.subscribe(pattern="#", name="all")(record)
    with EventBus(url, service="stranger") as stranger, bus:
        for number in range(30):
            stranger.publish({}, topic=f"rooms.{number}", type=f"invented.{number}")
        bus.publish(Registered(name="Ada"))
        assert numbers.becomes(31, CONSUMED, outcome="acked")
    scrape = numbers.scrape()
    numbers.endpoint.close()
    types = scrape.labels("event_type")
    assert len(types) <= 11
    assert {"other", "customers.registered"} <= types
    assert not any(kind.startswith("rooms.") for kind in types)


def record(event: object) -> None:
    """Takes anything."""


def test_reasons_topics_and_ids_are_never_labels(numbers: Numbers, url: str) -> None:
    bus = EventBus(url, service="emails", middleware=[numbers.middleware])
    seen: list[str] = []

    @bus.subscribe(Registered, pattern="customers.registered.#")
    def welcome(event: Registered, delivery: Delivery) -> None:
        seen.append(delivery.id)
        raise Reject("customer 4711 is unknown")

    with bus:
        bus.publish(Registered(name="Ada"), topic="customers.registered.private-topic")
        assert numbers.becomes(1, "eventbus_dead_lettered_total", error_type="Reject")
    text = numbers.scrape().text
    assert not any(word in text for word in ("4711", "private-topic", *seen))


def test_connection_and_consumers_are_up_while_the_bus_runs_and_gone_afterwards(numbers: Numbers, url: str) -> None:
    bus = EventBus(url, service="emails", middleware=[numbers.middleware])
    bus.subscribe(Registered)(lambda event: None)
    for _ in range(2):  # a bus may be started again
        with bus:
            assert numbers.becomes(1, "eventbus_connection_up")
            assert numbers.becomes(1, "eventbus_consumer_up", **WELCOME)
            assert numbers.scrape().value("eventbus_connection_blocked") == 0
        assert numbers.becomes(None, "eventbus_connection_up")
        assert numbers.scrape().value("eventbus_consumer_up") is None
    assert numbers.scrape().value("eventbus_reconnects_total") == 0


def test_the_end_of_the_certificate_is_told_while_there_is_one(numbers: Numbers, url: str) -> None:
    bus = EventBus(url, service="emails")
    numbers.middleware.link_changed(bus, LinkStatus(phase=Phase.READY))
    assert numbers.scrape().value("eventbus_certificate_expires_seconds") is None
    numbers.middleware.link_changed(bus, LinkStatus(phase=Phase.READY, certificate_expires=1.9e9))
    assert numbers.scrape().value("eventbus_certificate_expires_seconds") == 1.9e9
    numbers.middleware.link_changed(bus, LinkStatus(phase=Phase.CLOSED))
    assert numbers.scrape().value("eventbus_certificate_expires_seconds") is None


def test_the_spool_is_seen_while_the_bus_runs(numbers: Numbers) -> None:
    spool = Spool(MemoryTransport(), volatile=True)
    bus = EventBus(FlakyTransport(away=True), service="emails", middleware=[numbers.middleware], spool=spool)
    for name in ("Ada", "Bo", "Cleo"):
        bus.publish(Registered(name=name))
    assert numbers.becomes(3, "eventbus_spool_messages")
    assert numbers.becomes(1, "eventbus_spool_keeping")
    assert numbers.becomes(3, "eventbus_spool_kept_total")
    bus.publish(Registered(name="Dan"))
    bus.stop()
    scrape = numbers.scrape()
    assert scrape.value("eventbus_spool_messages") is None
    assert scrape.value("eventbus_spool_kept_total") == 4
    transport = FlakyTransport()
    with EventBus(transport, service="emails", middleware=[numbers.middleware], spool=spool):
        assert numbers.becomes(4, "eventbus_spool_sent_total")
        assert numbers.becomes(0, "eventbus_spool_messages")
        assert numbers.becomes(0, "eventbus_spool_keeping")
        assert numbers.scrape().value("eventbus_spool_oldest_seconds") == 0
    assert numbers.scrape().value("eventbus_spool_kept_total") == 4


def test_two_middlewares_of_one_registry_share_their_numbers(numbers: Numbers, url: str) -> None:
    second = PrometheusMiddleware(registry=numbers.registry)
    with EventBus(url, service="one", middleware=[numbers.middleware]) as one:
        one.publish(Registered(name="Ada"))
    with EventBus(url, service="two", middleware=[second]) as two:
        two.publish(Registered(name="Bo"))
    assert numbers.scrape().value(SENT, **TYPE) == 2


def test_it_is_found_by_its_name_and_uses_the_default_registry(url: str) -> None:
    def sent() -> float:
        return REGISTRY.get_sample_value(SENT, {"outcome": "confirmed", **TYPE}) or 0

    before = sent()
    with EventBus(url, service="signup", middleware=["prometheus"]) as bus:
        bus.publish(Registered(name="Ada"))
    assert sent() == before + 1
