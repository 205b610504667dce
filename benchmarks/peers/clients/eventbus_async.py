"""eventbus on asyncio, as its own documentation recommends: ``publish_many`` and a typed handler."""

from __future__ import annotations

import asyncio

from benchmarks.peers.clients.eventbus_event import Answered, Asked, Measured, events, existing, first, queue
from benchmarks.peers.clients.shared import PATIENCE, SOURCE, Job, main_async, spread
from benchmarks.runner import Sample, Stopwatch
from eventbus import AsyncEventBus


async def publish(job: Job) -> Sample:
    """All of them within the window."""
    async with AsyncEventBus(existing(job.url), service=SOURCE, window=job.window, timeout=PATIENCE) as bus:
        await bus.publish(first(job))
        watch = Stopwatch()
        watch.start()
        await bus.publish_many(events(job))
        return watch.stop(job.messages)


async def publish_one(job: Job) -> Sample:
    """One after the other."""
    async with AsyncEventBus(existing(job.url), service=SOURCE, timeout=PATIENCE) as bus:
        event, watch = first(job), Stopwatch()
        await bus.publish(event)
        watch.start()
        latencies = await spread(job.messages, 1, lambda number: bus.publish(event))
        return watch.stop(job.messages, latencies)


async def consume(job: Job) -> Sample:
    """A backlog."""
    watch, left, done = Stopwatch(), job.messages, asyncio.Event()
    async with AsyncEventBus(existing(job.url), service=SOURCE) as bus:

        @bus.subscribe(Measured, queue=queue(job), prefetch=job.prefetch, concurrency=1)
        async def handle(event: Measured) -> None:
            nonlocal left
            watch.start_once()
            left -= 1
            if left == 0:
                done.set()

        await done.wait()
        return watch.stop(job.messages)


async def rpc(job: Job) -> Sample:
    """Questions, with a bus for each side."""
    async with AsyncEventBus(job.url, service=SOURCE) as server, AsyncEventBus(job.url, service=SOURCE) as client:

        @server.respond(Asked, prefetch=job.prefetch)
        async def answer(asked: Asked) -> Answered:
            return Answered(asked.number)

        await server.wait_ready()
        await client.request(Asked(-1))
        watch = Stopwatch()
        watch.start()
        latencies = await spread(
            job.messages, job.window, lambda number: client.request(Asked(number), timeout=PATIENCE)
        )
        return watch.stop(job.messages, latencies)


if __name__ == "__main__":
    main_async({"publish": publish, "publish-one": publish_one, "consume": consume, "rpc": rpc})
