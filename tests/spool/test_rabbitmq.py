"""Spools in SQLite files before a real RabbitMQ: stopped, killed, frozen and full, and processes that are killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import AsyncEventBus, Delivery, EventBus, SpoolHealth
from eventbus.testing import eventually
from tests.spool.programs import Counted

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def broker() -> Iterator[LocalBroker]:
    """A broker of our own to stop."""
    with LocalBroker() as broker:
        yield broker


class Collector:
    """A durable group that remembers what came to it, by source."""

    def __init__(self, broker: LocalBroker, name: str) -> None:
        self.bus = EventBus(broker.url, service=name)
        self.first: dict[str, list[int]] = {}
        self.ids: dict[tuple[str, int], str] = {}
        self.again: list[tuple[str, int]] = []
        """What was published a second time: redeliveries by the broker do not count."""
        self.bus.subscribe(Counted, prefetch=200)(self.collect)
        self.bus.start()

    def collect(self, counted: Counted, delivery: Delivery) -> None:
        key = (counted.source, counted.number)
        if key not in self.ids:
            self.ids[key] = delivery.id
            self.first.setdefault(counted.source, []).append(counted.number)
        else:
            assert self.ids[key] == delivery.id
            if delivery.attempt == 1:
                self.again.append(key)

    def wait(self, source: str, count: int) -> list[int]:
        eventually(lambda: len(self.first.get(source, ())) >= count, 90, what=f"{count} events of {source}")
        return self.first[source]

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *error: object) -> None:
        self.bus.stop(5.0)


def state(bus: EventBus | AsyncEventBus) -> SpoolHealth:
    found = bus.health().spool
    assert found is not None
    return found


@contextmanager
def program(how: str, broker: LocalBroker, spool: str, first: int = 0) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.spool.programs", how, broker.url, spool, str(first)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def lines(process: subprocess.Popen[str], until: int) -> int:
    """Read numbers until one is so large; gives it."""
    assert process.stdout is not None
    while (number := int(process.stdout.readline())) < until:
        pass
    return number


def killed(process: subprocess.Popen[str], last: int) -> int:
    """Kill it; gives the last number that it has told of."""
    process.send_signal(signal.SIGKILL)
    assert process.stdout is not None
    for line in process.stdout:
        if line.endswith("\n"):
            last = int(line)
    return last


def test_processes_killed_with_events_in_the_spool_lose_nothing_and_keep_the_order(
    broker: LocalBroker, tmp_path: Path
) -> None:
    spool = f"sqlite:///{tmp_path}/spool.db?lease=2"
    with ExitStack() as stack:
        collector = stack.enter_context(Collector(broker, "killed"))
        broker.sync()
        broker.stop()
        last = -1
        for how in ("sync", "async"):  # two lives of one service
            publisher = stack.enter_context(program(how, broker, spool, last + 1))
            last = killed(publisher, lines(publisher, last + 500))
        drainer = stack.enter_context(program("slow", broker, spool))
        assert lines(drainer, 0) == 0, "the broker is away"
        broker.start()
        lines(drainer, 100)
        other = stack.enter_context(program("drain", broker, spool))
        assert killed(drainer, 0) < last, "there is something left to do"
        # A number that was not told of may have been kept all the same: its process died before it could tell.
        got = collector.wait("killed", last + 1)
        lines(other, 1)
        eventually(lambda: collector.bus.health().handlers_in_flight == 0)
        assert got == list(range(len(got)))
        assert last < len(got) <= last + 3
        assert len(collector.again) <= 3, "only what was on its way when the one that sent it died"


def test_both_buses_publish_on_while_the_broker_is_killed_and_comes_back(broker: LocalBroker, tmp_path: Path) -> None:
    over = threading.Event()
    counts = {"sync": 0, "async": 0}
    buses: list[EventBus | AsyncEventBus] = []

    def publish() -> None:
        with EventBus(broker.url, service="threads", spool=f"sqlite:///{tmp_path}/threads.db") as bus:
            buses.append(bus)
            while not over.is_set():
                bus.submit(Counted("sync", counts["sync"]))
                counts["sync"] += 1
                over.wait(0.001)
            eventually(lambda: state(bus).state == "idle", 60)

    async def publish_async() -> None:
        async with AsyncEventBus(broker.url, service="tasks", spool=f"sqlite:///{tmp_path}/tasks.db") as bus:
            buses.append(bus)
            while not over.is_set():
                await bus.submit(Counted("async", counts["async"]))
                counts["async"] += 1
                await asyncio.sleep(0.001)
            await asyncio.to_thread(eventually, lambda: state(bus).state == "idle", 60)

    with Collector(broker, "both") as collector:
        threads = [threading.Thread(target=publish), threading.Thread(target=lambda: asyncio.run(publish_async()))]
        for thread in threads:
            thread.start()
        try:
            collector.wait("sync", 100)
            collector.wait("async", 100)
            broker.sync()
            broker.kill()
            eventually(lambda: all(state(bus).kept > 200 for bus in buses), 60)
            broker.start()
            eventually(lambda: all(state(bus).state == "idle" for bus in buses), 60)
            after = dict(counts)
            eventually(lambda: all(counts[source] > after[source] + 50 for source in counts), 60)
        finally:
            over.set()
            for thread in threads:
                thread.join(90)
        for source, count in counts.items():
            assert collector.wait(source, count) == list(range(count))


def test_a_broker_that_says_nothing_is_found_out_by_the_first_deadline(broker: LocalBroker, tmp_path: Path) -> None:
    with Collector(broker, "frozen") as collector:
        bus = EventBus(broker.url, service="frozen", spool=f"sqlite:///{tmp_path}/spool.db", timeout=2.0)
        with bus:
            bus.publish(Counted("frozen", 0))
            broker.pause()
            try:
                began = time.monotonic()
                bus.publish(Counted("frozen", 1))
                assert time.monotonic() - began < 2.5, "in time for its caller"
                began = time.monotonic()
                bus.publish_many(Counted("frozen", number) for number in range(2, 200))
                assert time.monotonic() - began < 1.5, "nobody else waits for it"
            finally:
                broker.resume()
            assert collector.wait("frozen", 200) == list(range(200))
            eventually(lambda: state(bus).state == "idle", 60)


def test_while_the_broker_has_no_memory_events_are_kept(broker: LocalBroker, tmp_path: Path) -> None:
    with Collector(broker, "alarm") as collector:
        bus = EventBus(broker.url, service="alarm", spool=f"sqlite:///{tmp_path}/spool.db")
        with bus:
            bus.publish(Counted("alarm", 0))
            broker.ctl("set_vm_memory_high_watermark", "0")
            try:
                bus.publish(Counted("alarm", 1))  # the broker blocks a connection when it publishes
                eventually(lambda: bus.health().status == "blocked", 20)
                began = time.monotonic()
                bus.publish_many(Counted("alarm", number) for number in range(2, 100))
                assert time.monotonic() - began < 2.5
                assert state(bus).kept >= 98
            finally:
                broker.ctl("set_vm_memory_high_watermark", "0.4")
            assert collector.wait("alarm", 100) == list(range(100))
            eventually(lambda: state(bus).state == "idle", 60)
