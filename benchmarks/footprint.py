"""footprint: how much memory the process holds while a long stream is published and handled.

Publisher and subscriber are on one bus. What is held is bounded by window and prefetch, so it must not grow with
what has passed: the resident set is read after every tenth of the stream.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.runner import Plan, Result, Sample, Stopwatch, summary
from benchmarks.work import SMALL, Countdown, Job, Measured, declared, new_job
from eventbus import AsyncEventBus, EventBus

NAME = "footprint"
ABOUT = "resident memory while a long stream passes (1,000,000 events unless told otherwise)"

MESSAGES, QUICK_MESSAGES = 1_000_000, 20_000
WINDOW, PREFETCH = 1000, 200
PARTS = 10
HOURS = 3600.0

Memory = dict[str, float]


def run(plan: Plan) -> Iterator[Result]:
    """Both buses, one stream each."""
    messages = plan.given or (QUICK_MESSAGES if plan.quick else MESSAGES)
    for bus, stream in (("sync", sync_stream), ("async", _run_async)):
        job = new_job("classic")
        settings = {"window": WINDOW, "prefetch": PREFETCH}
        with plan.progress.measuring(NAME, bus, settings), declared(plan.url, job):
            stream(plan.url, job, max(1000, messages // 100))  # imports and pools are there from now on
            sample, memory = stream(plan.url, job, messages)
        result = summary([sample], benchmark=NAME, client=bus, settings=settings, body_bytes=SMALL)
        yield replace(result, rss_mb=memory)


def resident_mb() -> float:
    """The resident set of this process, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _watched(events: Iterator[Measured], messages: int, memory: Memory) -> Iterator[Measured]:
    """The events; on the way memory is read at each tenth."""
    part = max(1, messages // PARTS)
    for number, event in enumerate(events):
        if number % part == 0 and number:
            memory[f"{100 * number // messages} %"] = resident_mb()
        yield event


def sync_stream(url: str, job: Job, messages: int) -> tuple[Sample, Memory]:
    """Publish and handle with the bus for threads."""
    countdown, memory, watch = Countdown(messages), Memory(), Stopwatch()
    with EventBus(url, service="benchmarks", window=WINDOW, timeout=60.0) as bus:

        @bus.subscribe(job.event, queue=job.queue, prefetch=PREFETCH)
        def handle(event: Measured) -> None:
            countdown.one()

        bus.wait_ready()
        watch.start()
        bus.publish_many(_watched(job.events(messages), messages, memory))
        countdown.wait(HOURS)
        memory["100 %"] = resident_mb()
        return watch.stop(messages), memory


def _run_async(url: str, job: Job, messages: int) -> tuple[Sample, Memory]:
    return asyncio.run(async_stream(url, job, messages))


async def async_stream(url: str, job: Job, messages: int) -> tuple[Sample, Memory]:
    """Publish and handle with the bus for asyncio."""
    left, done, memory, watch = messages, asyncio.Event(), Memory(), Stopwatch()
    async with AsyncEventBus(url, service="benchmarks", window=WINDOW, timeout=60.0) as bus:

        @bus.subscribe(job.event, queue=job.queue, prefetch=PREFETCH)
        async def handle(event: Measured) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                done.set()

        await bus.wait_ready()
        watch.start()
        await bus.publish_many(_watched(job.events(messages), messages, memory))
        await done.wait()
        memory["100 %"] = resident_mb()
        return watch.stop(messages), memory
