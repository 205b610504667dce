"""memory: what the bus itself costs, without a network: publish, route, decode, handle and settle in one process."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

from benchmarks.runner import Plan, Result, Sample, Stopwatch, repeat
from benchmarks.work import PATIENCE, SMALL, Countdown, Measured, new_job
from eventbus import AsyncEventBus, EventBus

NAME = "memory"
ABOUT = "what the bus itself costs, without a network: publish to handler in one process"


def run(plan: Plan) -> Iterator[Result]:
    """Both buses, whatever the plan's broker is."""
    yield repeat(plan, NAME, "sync", {}, sync_once, body_bytes=SMALL)
    yield repeat(plan, NAME, "async", {}, async_once, body_bytes=SMALL)


def _url() -> str:
    return f"memory://benchmarks-{uuid.uuid4().hex[:12]}"  # a broker of its own: no leftovers


def sync_once(messages: int) -> Sample:
    """Publish and handle with the bus for threads."""
    watch, countdown = Stopwatch(), Countdown(messages)
    job, bus = new_job(), EventBus(_url(), service="benchmarks")

    @bus.subscribe(job.event, prefetch=200)
    def handle(event: Measured) -> None:
        countdown.one()

    with bus:
        watch.start()
        bus.publish_many(job.events(messages))
        countdown.wait()
        return watch.stop(messages)


def async_once(messages: int) -> Sample:
    """Publish and handle with the bus for asyncio."""
    return asyncio.run(_async_once(messages))


async def _async_once(messages: int) -> Sample:
    watch, left, done = Stopwatch(), messages, asyncio.Event()
    job, bus = new_job(), AsyncEventBus(_url(), service="benchmarks")

    @bus.subscribe(job.event, prefetch=200)
    async def handle(event: Measured) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    async with bus:
        watch.start()
        await bus.publish_many(job.events(messages))
        async with asyncio.timeout(PATIENCE):
            await done.wait()
        return watch.stop(messages)
