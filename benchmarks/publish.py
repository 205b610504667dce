"""publish-confirm: how fast events are published and confirmed, by how many may be unconfirmed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

from benchmarks.runner import Plan, Result, Sample, Stopwatch, repeat
from benchmarks.work import declared, events, new_queue
from eventbus import AsyncEventBus, EventBus

NAME = "publish-confirm"
WINDOWS = (1, 10, 100, 1000)


def run(plan: Plan) -> Iterator[Result]:
    """All windows on both buses. Small windows wait for the broker most of the time: fewer messages are enough."""
    with declared(plan.url, new_queue()):
        for window in WINDOWS:
            scaled = Plan(plan.url, max(1, plan.messages // {1: 10, 10: 2}.get(window, 1)), plan.repeats)
            for bus, once in (("sync", sync_once), ("async", async_once)):
                yield repeat(scaled, NAME, bus, f"window {window}", partial(once, plan.url, window=window))


def sync_once(url: str, messages: int, window: int) -> Sample:
    """Publish with the bus for threads."""
    watch = Stopwatch()
    with EventBus(url, service="benchmarks", window=window, timeout=60.0, mandatory=True) as bus:
        watch.start()
        bus.publish_many(events(messages))
        return watch.stop(messages)


def async_once(url: str, messages: int, window: int) -> Sample:
    """Publish with the bus for asyncio."""

    async def once() -> Sample:
        watch = Stopwatch()
        async with AsyncEventBus(url, service="benchmarks", window=window, timeout=60.0, mandatory=True) as bus:
            watch.start()
            await bus.publish_many(events(messages))
            return watch.stop(messages)

    return asyncio.run(once())
