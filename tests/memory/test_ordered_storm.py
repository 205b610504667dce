"""Ordered subscriptions while everything happens at once: failures, lost connections, buses that stop and start."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from eventbus_memory import MemoryTransport

from eventbus import AsyncEventBus, EventBus, RetryLater, event, fixed
from eventbus._bus import _sharing
from eventbus._settlement import Retry
from eventbus.testing import eventually
from eventbus.testing.scenarios.samples import Gauge

KEYS, ROUNDS, BUSES, CONCURRENCY = 30, 40, 3, 4


@event("storm.step", key="{customer}")
@dataclass(frozen=True)
class Step:
    customer: str
    number: int


class Record:
    """What the handlers of all buses saw."""

    def __init__(self, seed: int) -> None:
        self.lucky = random.Random(seed)
        self.began: dict[str, list[int]] = defaultdict(list)
        self.done: dict[str, list[int]] = defaultdict(list)
        self.at_once = [Gauge() for _ in range(BUSES)]
        self._lock = threading.Lock()

    def begin(self, step: Step) -> float:
        """A handler begins; gives how long it takes."""
        with self._lock:
            if step.number not in self.began[step.customer]:
                self.began[step.customer].append(step.number)
            if self.lucky.random() < 0.1:
                raise RetryLater(self.lucky.choice([0.0, 0.002, None]))
            return self.lucky.choice([0.0, 0.0005, 0.003])

    def end(self, step: Step) -> None:
        """A handler ends well."""
        with self._lock:
            if step.number not in self.done[step.customer]:
                self.done[step.customer].append(step.number)

    def count(self) -> int:
        return sum(map(len, self.done.values()))

    def check(self) -> None:
        whole = {str(key): list(range(ROUNDS)) for key in range(KEYS)}
        assert self.began == whole
        assert self.done == whole
        assert max(gauge.most for gauge in self.at_once) <= CONCURRENCY


class Threads:
    """Buses of threads."""

    def __init__(self, transport: MemoryTransport, record: Record, **options: Any) -> None:
        self.buses = [EventBus(transport, service="storm") for _ in range(BUSES)]
        for bus, gauge in zip(self.buses, record.at_once, strict=True):
            bus.subscribe(Step, **options)(self._handler(record, gauge))

    def _handler(self, record: Record, gauge: Gauge) -> Callable[[Step], None]:
        def handle(step: Step) -> None:
            with gauge:
                time.sleep(record.begin(step))
                record.end(step)

        return handle

    def start(self, number: int) -> None:
        self.buses[number].start()

    def stop(self, number: int) -> None:
        assert self.buses[number].stop(5.0).clean

    def close(self) -> None:
        for bus in self.buses:
            bus.stop(5.0)


class Tasks:
    """Buses of one event loop, in a thread."""

    def __init__(self, transport: MemoryTransport, record: Record, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.buses = [AsyncEventBus(transport, service="storm") for _ in range(BUSES)]
        for bus, gauge in zip(self.buses, record.at_once, strict=True):
            bus.subscribe(Step, **options)(self._handler(record, gauge))

    def _handler(self, record: Record, gauge: Gauge) -> Callable[[Step], Any]:
        async def handle(step: Step) -> None:
            with gauge:
                await asyncio.sleep(record.begin(step))
                record.end(step)

        return handle

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def start(self, number: int) -> None:
        self._call(self.buses[number].start())

    def stop(self, number: int) -> None:
        assert self._call(self.buses[number].stop(5.0)).clean

    def close(self) -> None:
        for bus in self.buses:
            self._call(bus.stop(5.0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [{"partitions": 5}, {"ordered": True}], ids=["partitions", "one queue"])
@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
@pytest.mark.parametrize("kind", [Threads, Tasks])
def test_each_key_stays_in_order_and_nothing_is_lost(
    kind: type[Threads | Tasks],
    queue_type: Any,
    options: dict[str, Any],
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sharing, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(_sharing, "STAY_SECONDS", 0.05)
    transport, record, chance = MemoryTransport(queue_type=queue_type), Record(seed), random.Random(seed)
    retry = Retry(attempts=1000, backoff=fixed(0.001))
    site = kind(transport, record, concurrency=CONCURRENCY, prefetch=20, retry=retry, **options)
    publisher = EventBus(transport, service="publisher")
    running = {0}
    try:
        site.start(0)
        publisher.publish_many(Step(str(key), number) for number in range(ROUNDS) for key in range(KEYS))
        for _ in range(8):
            which = chance.randrange(BUSES)
            if chance.random() < 0.3:
                transport.broker.disconnect()
            elif which in running and len(running) > 1:
                site.stop(which)
                running.remove(which)
            elif which not in running:
                site.start(which)
                running.add(which)
            before = record.count()
            eventually(lambda n=before: record.count() > n or record.count() == KEYS * ROUNDS, 20)  # type: ignore[misc]
        eventually(lambda: record.count() == KEYS * ROUNDS, 30)
    finally:
        site.close()
        publisher.stop()
    record.check()
    queues = [name for name in transport.broker.queues() if not name.endswith((".dead", ".members"))]
    assert {name: transport.broker.queue(name).ready for name in queues} == dict.fromkeys(queues, 0)
    assert transport.broker.messages("storm.storm.step.dead") == []
