"""What all client scripts share. Standard library only: they run where eventbus is not installed."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.runner import Sample

PATIENCE = 60.0
"""Seconds after which a sample that does not end is given up."""
SOURCE = "benchmarks"
CONTENT_TYPE = "application/json"
PERSISTENT = 2

Once = Callable[["Job"], Sample]
OnceAsync = Callable[["Job"], Coroutine[Any, Any, Sample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a script is asked to do."""

    work: str
    url: str
    exchange: str
    key: str
    queue: str
    queue_type: str
    messages: int
    window: int
    prefetch: int
    body: bytes


class Marks:
    """The properties of the messages, as eventbus writes them: every client sends the same.

    The time is the same for all messages of a sample, which spares the peers the cost of taking and formatting it.
    """

    def __init__(self, job: Job) -> None:
        self.timestamp = int(time.time())
        self.type = job.key
        self._time = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(self.timestamp))

    def id(self, number: int) -> str:
        """As long as a UUID, and cheap."""
        return f"01a20863-9ee4-7a07-ae1d-{number:012x}"

    def headers(self, id: str) -> dict[str, Any]:
        """The CloudEvents attributes."""
        return {
            "ce-id": id,
            "ce-source": SOURCE,
            "ce-specversion": "1.0",
            "ce-subject": self.type,
            "ce-time": self._time,
            "ce-type": self.type,
        }


def arguments(job: Job, body: Path) -> list[str]:
    """The command line that :func:`main` reads back; the body is in a file."""
    options = {name: value for name, value in asdict(job).items() if name not in ("work", "body")}
    named = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    return [job.work, *named, "--body", str(body)]


def asked(given: list[str] | None = None) -> Job:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work")
    for name in ("url", "exchange", "key", "queue", "queue-type"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("messages", "window", "prefetch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--uvloop", action="store_true")
    found = vars(parser.parse_args(given))
    del found["uvloop"]  # main_async sees to it
    found["body"] = found["body"].read_bytes()
    return Job(**found)


def main(works: Mapping[str, Once]) -> None:
    """Do one work and print what was measured. The work for large bodies is that for small ones."""
    job = asked()
    print(json.dumps(asdict(works[job.work.removesuffix("-64k")](job))), flush=True)


def main_async(works: Mapping[str, OnceAsync]) -> None:
    """The same for coroutines, in asyncio's own event loop or, with ``--uvloop``, in that one."""
    main({name: partial(_run, once) for name, once in works.items()})


def _run(once: OnceAsync, job: Job) -> Sample:
    async def patiently() -> Sample:
        async with asyncio.timeout(PATIENCE):
            return await once(job)

    if "--uvloop" not in sys.argv:
        return asyncio.run(patiently())
    import uvloop

    return uvloop.run(patiently())


async def spread(count: int, at_once: int, one: Callable[[int], Coroutine[Any, Any, Any]]) -> list[float]:
    """``one(number)`` for every number, so many at once at most; gives how long each took."""
    numbers, latencies = iter(range(count)), [0.0] * count

    async def worker() -> None:
        for number in numbers:
            began = time.perf_counter()
            await one(number)
            latencies[number] = time.perf_counter() - began

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return latencies
