"""prefetch: how fast a backlog is handled and acked, by how many deliveries may be unsettled at once.

One handler at a time that does nothing, so the numbers are those of the client and the broker. The clock runs from the
first delivery to the last, so that setting up the consumer is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

from benchmarks.runner import Plan, Result, Sample, Stopwatch, repeat
from benchmarks.work import PATIENCE, Countdown, Measured, declared, events, new_queue
from eventbus import AsyncEventBus, EventBus, Queue

NAME = "prefetch"
PREFETCHES = (1, 10, 50, 200)


def run(plan: Plan) -> Iterator[Result]:
    """All limits on both buses. Prefetch 1 waits for the broker most of the time: fewer messages are enough."""
    for prefetch in PREFETCHES:
        scaled = Plan(plan.url, max(2, plan.messages // (4 if prefetch == 1 else 1)), plan.repeats)
        for bus, once in (("sync", sync_once), ("async", async_once)):
            yield repeat(scaled, NAME, bus, f"prefetch {prefetch}", partial(once, plan.url, prefetch=prefetch))


def sync_once(url: str, messages: int, prefetch: int) -> Sample:
    """Handle a backlog with the bus for threads."""
    queue, watch, countdown = new_queue(), Stopwatch(), Countdown(messages)
    with declared(url, queue) as publisher:
        publisher.publish_many(events(messages))
        with EventBus(url, service="benchmarks") as bus:

            @bus.subscribe(Measured, queue=queue, prefetch=prefetch, concurrency=1)
            def handle(event: Measured) -> None:
                watch.start_once()
                countdown.one()

            countdown.wait()
            return watch.stop(messages - 1)


def async_once(url: str, messages: int, prefetch: int) -> Sample:
    """Handle a backlog with the bus for asyncio."""
    queue = new_queue()
    with declared(url, queue) as publisher:
        publisher.publish_many(events(messages))
        return asyncio.run(_async_once(url, queue, messages, prefetch))


async def _async_once(url: str, queue: Queue, messages: int, prefetch: int) -> Sample:
    watch, left, done = Stopwatch(), messages, asyncio.Event()
    async with AsyncEventBus(url, service="benchmarks") as bus:

        @bus.subscribe(Measured, queue=queue, prefetch=prefetch, concurrency=1)
        async def handle(event: Measured) -> None:
            nonlocal left
            watch.start_once()
            left -= 1
            if left == 0:
                done.set()

        async with asyncio.timeout(PATIENCE):
            await done.wait()
        return watch.stop(messages - 1)
