"""rpc: requests and their answers, by how many are open at once. Both sides are in this process, on a bus each."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from benchmarks.runner import Plan, Result, Sample, Stopwatch, repeat
from eventbus import AsyncEventBus, EventBus, Request, event

NAME = "rpc"
ABOUT = "requests answered, with 1 and 100 open at once; latency of each"

IN_FLIGHT = (1, 100)
PREFETCH = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer."""

    number: int


@event("benchmarks.asked")
@dataclass(frozen=True, slots=True)
class Asked(Request[Answered]):
    """The question."""

    number: int


def run(plan: Plan) -> Iterator[Result]:
    """Both numbers on both buses."""
    for in_flight in IN_FLIGHT:
        scale = 0.1 if in_flight == 1 else 0.5
        for bus, once in (("sync", sync_once), ("async", async_once)):
            settings = {"in flight": in_flight}
            yield repeat(plan, NAME, bus, settings, partial(once, plan.url, in_flight=in_flight), scale=scale)


def sync_once(url: str, messages: int, in_flight: int) -> Sample:
    """Ask from so many threads."""
    numbers, lock, latencies = itertools.count(), threading.Lock(), [0.0] * messages
    with EventBus(url, service="benchmarks") as server, EventBus(url, service="benchmarks") as client:

        @server.respond(Asked, prefetch=PREFETCH, concurrency=1)
        def answer(asked: Asked) -> Answered:
            return Answered(asked.number)

        server.wait_ready()
        client.request(Asked(-1))

        def ask() -> None:
            while True:
                with lock:
                    number = next(numbers)
                if number >= messages:
                    return
                began = time.perf_counter()
                client.request(Asked(number), timeout=60.0)
                latencies[number] = time.perf_counter() - began

        with ThreadPoolExecutor(in_flight) as threads:
            watch = Stopwatch()
            watch.start()
            for asking in [threads.submit(ask) for _ in range(in_flight)]:
                asking.result()
            return watch.stop(messages, latencies)


def async_once(url: str, messages: int, in_flight: int) -> Sample:
    """Ask from so many tasks."""

    async def once() -> Sample:
        numbers, latencies = iter(range(messages)), [0.0] * messages
        async with (
            AsyncEventBus(url, service="benchmarks") as server,
            AsyncEventBus(url, service="benchmarks") as client,
        ):

            @server.respond(Asked, prefetch=PREFETCH, concurrency=1)
            async def answer(asked: Asked) -> Answered:
                return Answered(asked.number)

            await server.wait_ready()
            await client.request(Asked(-1))

            async def ask() -> None:
                for number in numbers:
                    began = time.perf_counter()
                    await client.request(Asked(number), timeout=60.0)
                    latencies[number] = time.perf_counter() - began

            watch = Stopwatch()
            watch.start()
            await asyncio.gather(*(ask() for _ in range(in_flight)))
            return watch.stop(messages, latencies)

    return asyncio.run(once())
