"""publish-confirm: how fast events are published and confirmed, by how many may be unconfirmed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.runner import Plan, Result, Sample, Settings, Stopwatch, repeat
from benchmarks.work import SMALL, Job, QueueType, declared, new_job
from eventbus import AsyncEventBus, EventBus

NAME = "publish-confirm"
ABOUT = "events published and confirmed, by window, body, delivery, queue type and TLS"

WINDOWS = (1, 10, 100, 1000)
BODIES = (SMALL, 4096, 65536)
BUSES = ("sync", "async")


@dataclass(frozen=True, slots=True)
class Case:
    """One setting."""

    window: int = WINDOWS[-1]
    body: int = SMALL
    delivery: Literal["persistent", "transient"] = "persistent"
    queue: QueueType = "quorum"
    tls: bool = False

    def settings(self) -> Settings:
        """For the result."""
        return {
            "window": self.window,
            "body": self.body,
            "delivery": self.delivery,
            "queue": self.queue,
            "tls": "yes" if self.tls else "no",
        }

    def scale(self) -> float:
        """Small windows wait for the broker most of the time, and large bodies fill its disk: fewer will do."""
        return {1: 0.1, 10: 0.4}.get(self.window, 1.0) * {4096: 0.5, 65536: 0.05}.get(self.body, 1.0)


def cases(*, quick: bool, tls: bool) -> list[Case]:
    """Windows by bodies, then everything else at the widest window, one at a time. The quick set has small bodies."""
    found = [Case(window=window, body=body) for body in (BODIES[:1] if quick else BODIES) for window in WINDOWS]
    widest = found[len(WINDOWS) - 1]
    if quick:
        found += [replace(widest, body=body) for body in BODIES[1:]]
    found += [replace(widest, delivery="transient"), replace(widest, queue="classic")]
    found += [replace(widest, delivery="transient", queue="classic")]
    if tls:
        found += [replace(widest, tls=True), replace(widest, tls=True, body=BODIES[-1])]
    return found


def run(plan: Plan) -> Iterator[Result]:
    """All cases on both buses."""
    for case in cases(quick=plan.quick, tls=plan.tls_url is not None):
        url = plan.tls_url if case.tls and plan.tls_url is not None else plan.url
        job = new_job(case.queue, body_bytes=case.body)
        with declared(url, job):
            for bus in BUSES:
                once = _Once(bus, url, case, job)
                yield repeat(plan, NAME, bus, case.settings(), once, scale=case.scale(), body_bytes=case.body)


@dataclass(frozen=True, slots=True)
class _Once:
    bus: str
    url: str
    case: Case
    job: Job

    def __call__(self, messages: int) -> Sample:
        persistent = self.case.delivery == "persistent"
        if self.bus == "sync":
            return sync_once(self.url, self.job, messages, self.case.window, persistent)
        return asyncio.run(async_once(self.url, self.job, messages, self.case.window, persistent))


def sync_once(url: str, job: Job, messages: int, window: int, persistent: bool) -> Sample:
    """Publish with the bus for threads; connecting is left out."""
    with EventBus(url, service="benchmarks", window=window, timeout=60.0) as bus:
        bus.publish(job.first())
        watch = Stopwatch()
        watch.start()
        bus.publish_many(job.events(messages), persistent=persistent)
        return watch.stop(messages)


async def async_once(url: str, job: Job, messages: int, window: int, persistent: bool) -> Sample:
    """Publish with the bus for asyncio; connecting is left out."""
    async with AsyncEventBus(url, service="benchmarks", window=window, timeout=60.0) as bus:
        await bus.publish(job.first())
        watch = Stopwatch()
        watch.start()
        await bus.publish_many(job.events(messages), persistent=persistent)
        return watch.stop(messages)
