"""Many threads and tasks publish while the broker comes and goes, over links that call back from everywhere."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import defaultdict
from dataclasses import dataclass

import pytest
from eventbus_memory import MemoryTransport

from eventbus import AsyncEventBus, EventBus, Spool, event
from eventbus.testing import eventually
from tests.spool.places import FlakyTransport

PUBLISHERS = 6


@event("storm.counted")
@dataclass(frozen=True)
class Counted:
    publisher: int
    number: int


class Collector:
    """A group of its own bus that remembers what came, in the order of the first arrivals."""

    def __init__(self, transport: FlakyTransport) -> None:
        self._seen: set[tuple[int, int]] = set()
        self.numbers: dict[int, list[int]] = defaultdict(list)
        self.bus = EventBus(transport, service="collector")
        self.bus.subscribe(Counted)(self.collect)

    def collect(self, counted: Counted) -> None:
        if (counted.publisher, counted.number) not in self._seen:
            self._seen.add((counted.publisher, counted.number))
            self.numbers[counted.publisher].append(counted.number)


def weather(broker: FlakyTransport, store: MemoryTransport, seed: int) -> None:
    """The broker comes and goes, and sometimes a connection is cut."""
    chance, pause = random.Random(seed), threading.Event()
    kinds = ["away"] * 6 + ["cut"] * 4 + ["store cut"] * 3
    chance.shuffle(kinds)
    for kind in kinds:
        if kind == "away":
            broker.leave()
            pause.wait(0.01 + chance.random() * 0.03)
            broker.come_back()
        elif kind == "cut":
            broker.broker.disconnect()
        else:
            store.broker.disconnect()
        pause.wait(chance.random() * 0.05)


def check(collector: Collector, counts: list[int], store: MemoryTransport, bus: EventBus | AsyncEventBus) -> None:
    eventually(lambda: sum(map(len, collector.numbers.values())) == sum(counts), 60)
    assert dict(collector.numbers) == {p: list(range(count)) for p, count in enumerate(counts)}
    eventually(lambda: bus.health().spool.state == "idle", 20)  # type: ignore[union-attr]
    assert store.broker.messages("storm.spool.dead") == []
    told = bus.health().spool
    assert told is not None
    assert told.kept > 0, "the storm would be none"
    assert (told.messages, told.error) == (0, None)


@pytest.mark.parametrize("seed", range(3))
def test_threads(seed: int) -> None:
    broker, store = FlakyTransport(), MemoryTransport()
    bus = EventBus(broker, service="storm", spool=Spool(store, volatile=True), window=50)
    collector, over, counts = Collector(broker), threading.Event(), [0] * PUBLISHERS

    def publish(publisher: int) -> None:
        while not over.is_set():
            publish_one = bus.submit if counts[publisher] % 3 else bus.publish
            publish_one(Counted(publisher, counts[publisher]))
            counts[publisher] += 1
            if counts[publisher] % 10 == 0:
                over.wait(0.002)

    with collector.bus, bus:
        threads = [threading.Thread(target=publish, args=(publisher,)) for publisher in range(PUBLISHERS)]
        for thread in threads:
            thread.start()
        weather(broker, store, seed)
        over.set()
        for thread in threads:
            thread.join(20)
        check(collector, counts, store, bus)


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(3))
async def test_tasks(seed: int) -> None:
    broker, store = FlakyTransport(), MemoryTransport()
    bus = AsyncEventBus(broker, service="storm", spool=Spool(store, volatile=True), window=50)
    collector, counts = Collector(broker), [0] * PUBLISHERS

    async def publish(publisher: int) -> None:
        while not storm.done():
            publish_one = bus.submit if counts[publisher] % 3 else bus.publish
            await publish_one(Counted(publisher, counts[publisher]))
            counts[publisher] += 1
            if counts[publisher] % 10 == 0:
                await asyncio.sleep(0.002)

    with collector.bus:
        async with bus:
            storm = asyncio.create_task(asyncio.to_thread(weather, broker, store, seed))
            await asyncio.gather(*(publish(publisher) for publisher in range(PUBLISHERS)))
            await asyncio.to_thread(check, collector, counts, store, bus)
