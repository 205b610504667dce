"""What all client scripts share. Standard library only: they run where eventbus is not installed."""

from __future__ import annotations

import argparse
import json
import random
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.runner import Sample

PATIENCE = 120.0
"""Seconds after which a sample that does not end is given up."""
EMPTY_TEXT = {"name": "Ada Lovelace", "email": "ada@example.com", "country": "se", "text": ""}
GAPS = (0.005, 0.055)
"""Seconds between two messages for an idle bus: long enough that it waits, and in no step with anybody's polling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a script is asked to do.

    ``first`` is the number of its first message, and ``queued`` messages are in the file before. A batch is claimed
    until it is full or ``limit`` seconds are over.
    """

    work: str
    file: Path
    synchronous: str
    messages: int
    window: int
    prefetch: int
    body: int
    queued: int = 0
    limit: float = 3.0
    role: str = ""
    first: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a script measured.

    ``left`` messages are in the queue at the end; ``pragmas`` are those of its connection, read back from SQLite.
    A member of a team says when it began and ended (``perf_counter`` is one clock for all processes), and which
    numbers it handled.
    """

    sample: Sample | None = None
    left: int | None = None
    pragmas: Mapping[str, str] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0
    cpu: float = 0.0
    numbers: Sequence[int] = ()
    latencies: Sequence[float] = ()


Once = Callable[[Job], Report]


def body_of(number: int, size: int) -> bytes:
    """The event as JSON: as long as what the bus writes, give or take the digits of the number."""
    event: dict[str, object] = {"number": number, **EMPTY_TEXT}
    made = json.dumps(event, separators=(",", ":")).encode()
    return made[:-2] + b"x" * (size - len(made)) + made[-2:]


def number_of(body: str | bytes) -> int:
    """The number in such a body, without decoding the rest."""
    if isinstance(body, bytes):
        body = body.decode()
    return int(body[body.index(":") + 1 : body.index(",")])


def bodies(job: Job) -> list[bytes]:
    """All bodies of a sample, numbered: made beforehand, for it is writing them that is measured."""
    return [body_of(number, job.body) for number in range(job.first, job.first + job.messages)]


def gaps(count: int) -> Iterator[float]:
    """How long to wait before each message for an idle bus; the same for every client."""
    chosen = random.Random(1)
    return (chosen.uniform(*GAPS) for _ in range(count))


class Orders:
    """The other end of :mod:`benchmarks.sqlite.team`: ready, go, how many are handled, and the end of stdin as stop."""

    def __init__(self) -> None:
        self._told = 0

    def wait_go(self) -> None:
        """Say that everything is set up, and wait until the others are ready too."""
        print("ready", flush=True)
        if not sys.stdin.readline():
            raise SystemExit("no go came")

    def stopped(self, seconds: float, handled: int = 0) -> bool:
        """Whether stop was said, waiting for it so long; tells how many are handled."""
        if handled != self._told:
            print(handled, flush=True)
            self._told = handled
        return bool(select.select([sys.stdin], [], [], seconds)[0])


def arguments(job: Job) -> list[str]:
    """The command line that :func:`asked` reads back."""
    return [text for name, value in asdict(job).items() for text in (f"--{name}", str(value))]


def asked(given: Sequence[str] | None = None) -> Job:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    for name in ("work", "synchronous", "role"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("messages", "window", "prefetch", "body", "queued", "first"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--file", type=Path, required=True)
    return Job(**vars(parser.parse_args(given)))


def main(works: Mapping[str, Once]) -> None:
    """Do one work and print what was measured. The work of a member of a team has its role in its name."""
    job = asked()
    report = works[f"{job.work}-{job.role}" if job.role else job.work](job)
    print(json.dumps(asdict(report)), flush=True)


def wait_until(moment: float) -> None:
    """Sleep until the clock says so."""
    left = moment - time.perf_counter()
    if left > 0:
        time.sleep(left)
