"""eventbus on asyncio on ``sqlite:///``: ``publish``, ``publish_many`` and a typed handler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from benchmarks.peers.clients.eventbus_event import Measured
from benchmarks.runner import Sample, Stopwatch, cpu_seconds
from benchmarks.sqlite.clients.eventbus_event import QUEUE, declared, events, left, text, url
from benchmarks.sqlite.clients.shared import PATIENCE, Job, Once, Orders, Report, gaps, main
from eventbus import AsyncEventBus

TELL = 0.02


def bus_of(job: Job) -> AsyncEventBus:
    """A bus that waits as long as the sample may last."""
    return AsyncEventBus(url(job), service="benchmarks", window=job.window, timeout=PATIENCE)


async def publish_one(job: Job) -> Sample:
    """One after the other."""
    async with bus_of(job) as bus:
        found, latencies, now, watch = list(events(job)), [0.0] * job.messages, time.perf_counter, Stopwatch()
        watch.start()
        for number, event in enumerate(found):
            began = now()
            await bus.publish(event)
            latencies[number] = now() - began
        return watch.stop(job.messages, latencies)


async def publish(job: Job) -> Sample:
    """All of them within the window."""
    async with bus_of(job) as bus:
        watch = Stopwatch()
        watch.start()
        await bus.publish_many(events(job))
        return watch.stop(job.messages)


async def handle(job: Job) -> Sample:
    """Published and handled on one bus."""
    watch, open_, done = Stopwatch(), job.messages, asyncio.Event()
    async with bus_of(job) as bus:

        @bus.subscribe(Measured, queue=QUEUE, prefetch=job.prefetch, concurrency=1)
        async def handle(event: Measured) -> None:
            nonlocal open_
            open_ -= 1
            if open_ == 0:
                done.set()

        await bus.wait_ready()
        watch.start()
        await bus.publish_many(events(job))
        await done.wait()
        return watch.stop(job.messages)


async def team_publish(job: Job) -> Report:
    """One publisher of several."""
    orders = Orders()
    async with bus_of(job) as bus:
        await bus.wait_ready()
        orders.wait_go()
        began, cpu = time.perf_counter(), cpu_seconds()
        await bus.publish_many(events(job))
        return Report(began=began, ended=time.perf_counter(), cpu=cpu_seconds() - cpu)


async def idle_publish(job: Job) -> Report:
    """A message now and then; its number is the time at which it is published."""
    orders, filler = Orders(), text(job)
    async with bus_of(job) as bus:
        await bus.wait_ready()
        orders.wait_go()
        began, cpu = time.perf_counter(), cpu_seconds()
        for gap in gaps(job.messages):
            await asyncio.sleep(gap)
            await bus.publish(Measured(number=time.perf_counter_ns(), text=filler))
        return Report(began=began, ended=time.perf_counter(), cpu=cpu_seconds() - cpu)


async def team_consume(job: Job) -> Report:
    """One consumer of several, until it is told to stop."""
    orders, numbers, latencies, ended, now = Orders(), list[int](), list[float](), 0.0, time.perf_counter
    async with bus_of(job) as bus:

        @bus.subscribe(Measured, queue=QUEUE, prefetch=job.prefetch, concurrency=1)
        async def handle(event: Measured) -> None:
            nonlocal ended
            ended = now()
            latencies.append(ended - event.number / 1e9)
            numbers.append(event.number)

        await bus.wait_ready(PATIENCE)
        orders.wait_go()
        began, cpu = now(), cpu_seconds()
        while not await asyncio.to_thread(orders.stopped, TELL, len(numbers)) and now() < began + PATIENCE:
            pass
        cpu = cpu_seconds() - cpu
    kept = latencies if job.work == "latency" else ()
    return Report(began=began, ended=ended, cpu=cpu, numbers=numbers, latencies=kept)


async def idle(job: Job) -> Report:
    """A bus that waits for so many seconds, after one message."""
    watch, came = Stopwatch(), asyncio.Event()
    async with bus_of(job) as bus:

        @bus.subscribe(Measured, queue=QUEUE, prefetch=job.prefetch)
        async def handle(event: Measured) -> None:
            came.set()

        await bus.wait_ready()
        await bus.publish(Measured(number=0))
        await came.wait()
        watch.start()
        await asyncio.sleep(job.messages)
        return Report(sample=watch.stop(job.messages))


def _alone(work: Callable[[Job], Coroutine[Any, Any, Sample]], job: Job) -> Report:
    """A work of one process: the queue is there before, and counted afterwards."""
    declared(job)
    return Report(sample=_run(work, job), left=left(job))


def _run(work: Callable[[Job], Coroutine[Any, Any, Any]], job: Job) -> Any:
    async def patiently() -> Any:
        async with asyncio.timeout(2 * PATIENCE):
            return await work(job)

    return asyncio.run(patiently())


if __name__ == "__main__":
    alone: dict[str, Once] = {
        name: partial(_alone, work)
        for name, work in (("publish-one", publish_one), ("publish", publish), ("handle", handle))
    }
    members: dict[str, Once] = {
        name: partial(_run, work)
        for name, work in (
            ("processes-publisher", team_publish),
            ("processes-consumer", team_consume),
            ("latency-publisher", idle_publish),
            ("latency-consumer", team_consume),
            ("idle", idle),
        )
    }
    main(alone | members)
