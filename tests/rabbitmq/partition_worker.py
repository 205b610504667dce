"""A process that serves a partitioned subscription and writes down when each handler began and ended."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from eventbus import AsyncEventBus, Delivery, EventBus, Exchange, event
from eventbus._bus import _sharing

EXCHANGE = "partitions.events"
PARTITIONS = 6


@event("partitions.step", key="{customer}", exchange=Exchange(name=EXCHANGE))
@dataclass(frozen=True)
class Step:
    customer: str
    number: int


OPTIONS: dict[str, Any] = {"partitions": PARTITIONS, "concurrency": 8}


class Journal:
    """Lines that outlive a SIGKILL: each is one write."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str, step: Step, delivery: Delivery) -> None:
        line = {
            "what": what, "at": time.monotonic(), "pid": os.getpid(), "key": step.customer, "number": step.number,
            "queue": delivery.queue, "redelivered": delivery.redelivered,
        }  # fmt: skip
        os.write(self._file, (json.dumps(line) + "\n").encode())


def serve(url: str, journal: Journal) -> None:
    bus = EventBus(url, service="workers", grace=10)

    @bus.subscribe(Step, **OPTIONS)
    def handle(step: Step, delivery: Delivery) -> None:
        journal.note("begin", step, delivery)
        time.sleep(0.003)
        journal.note("end", step, delivery)

    print(bus.run().clean, flush=True)


async def serve_async(url: str, journal: Journal) -> None:
    bus = AsyncEventBus(url, service="workers", grace=10)

    @bus.subscribe(Step, **OPTIONS)
    async def handle(step: Step, delivery: Delivery) -> None:
        journal.note("begin", step, delivery)
        await asyncio.sleep(0.003)
        journal.note("end", step, delivery)

    print((await bus.run()).clean, flush=True)


if __name__ == "__main__":
    _, kind, url, path = sys.argv
    _sharing.LOOK_SECONDS, _sharing.STAY_SECONDS = 0.2, 0.5
    if kind == "async":
        asyncio.run(serve_async(url, Journal(path)))
    else:
        serve(url, Journal(path))
