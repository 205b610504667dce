"""fanout: one event handled by many groups: how fast copies are handled, by the number of groups."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

from benchmarks.runner import Plan, Result, Sample, Stopwatch, repeat
from benchmarks.work import PATIENCE, SMALL, Countdown, Job, Measured, declared, new_job
from eventbus import AsyncEventBus, EventBus

NAME = "fanout"
ABOUT = "events handled by 1 to 50 groups; the rate counts handled copies"

GROUPS = (1, 5, 10, 50)
PREFETCH = 200


def run(plan: Plan) -> Iterator[Result]:
    """All numbers of groups on both buses. Messages are copies, so more groups do not mean a longer sample."""
    for groups in GROUPS:
        for bus, once in (("sync", sync_once), ("async", async_once)):
            settings = {"groups": groups}
            yield repeat(plan, NAME, bus, settings, partial(once, plan.url, groups=groups), body_bytes=SMALL)


def _published(messages: int, groups: int) -> int:
    return max(1, messages // groups)


def sync_once(url: str, messages: int, groups: int) -> Sample:
    """Publish and handle with the bus for threads."""
    published = _published(messages, groups)
    job, countdown = new_job("classic", queues=groups), Countdown(published * groups)

    def handle(event: Measured) -> None:
        countdown.one()

    with declared(url, job), EventBus(url, service="benchmarks", timeout=60.0) as bus:
        for queue in job.queues:
            bus.subscribe(job.event, name=queue.name, queue=queue, prefetch=PREFETCH)(handle)
        bus.wait_ready(60)
        watch = Stopwatch()
        watch.start()
        bus.publish_many(job.events(published))
        countdown.wait()
        return watch.stop(published * groups)


def async_once(url: str, messages: int, groups: int) -> Sample:
    """Publish and handle with the bus for asyncio."""
    job = new_job("classic", queues=groups)
    with declared(url, job):
        return asyncio.run(_async_once(url, job, _published(messages, groups)))


async def _async_once(url: str, job: Job, published: int) -> Sample:
    left, done = published * len(job.queues), asyncio.Event()

    async def handle(event: Measured) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    async with AsyncEventBus(url, service="benchmarks", timeout=60.0) as bus:
        for queue in job.queues:
            bus.subscribe(job.event, name=queue.name, queue=queue, prefetch=PREFETCH)(handle)
        await bus.wait_ready(60)
        watch = Stopwatch()
        watch.start()
        await bus.publish_many(job.events(published))
        async with asyncio.timeout(PATIENCE):
            await done.wait()
        return watch.stop(published * len(job.queues))
