"""latency: from the moment an event is due to be published to its handler's first line, at a fixed rate.

The rate is held by the clock, not by the last answer: an event that leaves late because earlier ones were slow counts
its waiting (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial

from benchmarks.runner import Amount, Plan, Result, Sample, Stopwatch, repeat
from benchmarks.work import PATIENCE, SMALL, Countdown, Job, Measured, declared, new_job
from eventbus import AsyncEventBus, EventBus

NAME = "latency"
ABOUT = "publish to handler, p50 and p99, at fixed rates"

RATES = (100, 1000, 5000)
SECONDS, QUICK_SECONDS = 5.0, 1.0


def run(plan: Plan) -> Iterator[Result]:
    """All rates on both buses. How long a sample lasts is given in seconds here."""
    seconds = plan.amount.seconds or (QUICK_SECONDS if plan.quick else SECONDS)
    for rate in RATES:
        timed = Plan(plan.url, Amount(max(2, int(rate * seconds))), plan.progress, plan.repeats)
        for bus, once in (("sync", sync_once), ("async", async_once)):
            yield repeat(timed, NAME, bus, {"rate": rate}, partial(once, plan.url, rate=rate), body_bytes=SMALL)


def sync_once(url: str, messages: int, rate: float) -> Sample:
    """Publish and handle with the bus for threads."""
    job, countdown, latencies = new_job(), Countdown(messages), [0.0] * messages
    first = 0.0
    with declared(url, job), EventBus(url, service="benchmarks", timeout=60.0) as bus:

        @bus.subscribe(job.event, queue=job.queue, prefetch=200)
        def handle(event: Measured) -> None:
            if event.number >= 0:
                latencies[event.number] = time.perf_counter() - (first + event.number / rate)
                countdown.one()

        bus.wait_ready()
        bus.publish(job.first())
        watch = Stopwatch()
        watch.start()
        first = time.perf_counter()
        for event in job.events(messages):
            wait = first + event.number / rate - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            bus.submit(event)
        countdown.wait()
        return watch.stop(messages, latencies)


def async_once(url: str, messages: int, rate: float) -> Sample:
    """Publish and handle with the bus for asyncio."""
    job = new_job()
    with declared(url, job):
        return asyncio.run(_async_once(url, job, messages, rate))


async def _async_once(url: str, job: Job, messages: int, rate: float) -> Sample:
    latencies, left, done, first = [0.0] * messages, messages, asyncio.Event(), 0.0
    async with AsyncEventBus(url, service="benchmarks", timeout=60.0) as bus:

        @bus.subscribe(job.event, queue=job.queue, prefetch=200)
        async def handle(event: Measured) -> None:
            nonlocal left
            if event.number >= 0:
                latencies[event.number] = time.perf_counter() - (first + event.number / rate)
                left -= 1
                if left == 0:
                    done.set()

        await bus.wait_ready()
        await bus.publish(job.first())
        watch = Stopwatch()
        watch.start()
        first = time.perf_counter()
        for event in job.events(messages):
            wait = first + event.number / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            await bus.submit(event)
        async with asyncio.timeout(PATIENCE):
            await done.wait()
        return watch.stop(messages, latencies)
