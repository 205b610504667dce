"""prefetch: how fast a backlog is handled and acked, by how many deliveries may be unsettled at once.

The clock begins when as many have been handled as the broker may have sent ahead, so that setting up the consumer, and
what came meanwhile, are left out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.runner import Plan, Result, Sample, Settings, Stopwatch, repeat
from benchmarks.work import PATIENCE, SMALL, Countdown, Job, Measured, declared, new_job
from eventbus import AsyncEventBus, EventBus

NAME = "prefetch"
ABOUT = "a backlog handled and acked, by prefetch; a handler that returns at once, and one that waits 1 ms"

MOST = 65535
"""The bus has no prefetch without a limit; this is the widest that AMQP can name."""
PREFETCHES = (1, 10, 50, 200, 1000, MOST)
BUSES = ("sync", "async")
WAITING_CONCURRENCY = 20
WAIT = 0.001


@dataclass(frozen=True, slots=True)
class Case:
    """One setting. The handler that waits runs many times over, as far as the prefetch lets it."""

    prefetch: int
    waits: bool = False

    def settings(self) -> Settings:
        """For the result."""
        prefetch = "unlimited" if self.prefetch == MOST else self.prefetch
        return {"prefetch": prefetch, "handler": "waits 1 ms" if self.waits else "at once"}

    def scale(self) -> float:
        """Prefetch 1 waits for the broker most of the time."""
        return (0.25 if self.prefetch == 1 else 1.0) * (0.2 if self.waits else 1.0)

    def ahead(self, messages: int) -> int:
        """Deliveries before the clock begins."""
        return min(self.prefetch, messages // 10)

    def least(self) -> int:
        """Messages of a sample: many times the prefetch, or most would have come before the clock began."""
        return 1 if self.waits else 10 * min(self.prefetch, 1000)

    def concurrency(self) -> int:
        """Handlers at once."""
        return min(self.prefetch, WAITING_CONCURRENCY) if self.waits else 1


def run(plan: Plan) -> Iterator[Result]:
    """All limits and handlers on both buses."""
    for case in [Case(prefetch, waits) for waits in (False, True) for prefetch in PREFETCHES]:
        enough = replace(plan, amount=replace(plan.amount, messages=max(plan.amount.messages, case.least())))
        for bus in BUSES:
            once = _Once(bus, plan.url, case)
            yield repeat(enough, NAME, bus, case.settings(), once, scale=case.scale(), body_bytes=SMALL)


@dataclass(frozen=True, slots=True)
class _Once:
    bus: str
    url: str
    case: Case

    def __call__(self, messages: int) -> Sample:
        job = new_job()
        with declared(self.url, job) as publisher:
            publisher.publish_many(job.events(messages))
            if self.bus == "sync":
                return sync_once(self.url, job, messages, self.case)
            return asyncio.run(async_once(self.url, job, messages, self.case))


def sync_once(url: str, job: Job, messages: int, case: Case) -> Sample:
    """Handle a backlog with the bus for threads."""
    watch, wait, ahead = Stopwatch(), WAIT if case.waits else 0.0, case.ahead(messages)
    countdown = Countdown(messages, at={messages - ahead: watch.start})
    with EventBus(url, service="benchmarks") as bus:

        @bus.subscribe(job.event, queue=job.queue, prefetch=case.prefetch, concurrency=case.concurrency())
        def handle(event: Measured) -> None:
            if wait:
                time.sleep(wait)
            countdown.one()

        countdown.wait()
        return watch.stop(messages - case.ahead(messages))


async def async_once(url: str, job: Job, messages: int, case: Case) -> Sample:
    """Handle a backlog with the bus for asyncio."""
    watch, left, done, wait = Stopwatch(), messages, asyncio.Event(), WAIT if case.waits else 0.0
    begin = messages - case.ahead(messages)
    async with AsyncEventBus(url, service="benchmarks") as bus:

        @bus.subscribe(job.event, queue=job.queue, prefetch=case.prefetch, concurrency=case.concurrency())
        async def handle(event: Measured) -> None:
            nonlocal left
            if wait:
                await asyncio.sleep(wait)
            left -= 1
            if left == begin:
                watch.start()
            elif left == 0:
                done.set()

        async with asyncio.timeout(PATIENCE):
            await done.wait()
        return watch.stop(messages - case.ahead(messages))
