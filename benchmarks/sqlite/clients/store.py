"""All works on a queue that is no bus: five operations, and loops around them in one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.runner import Sample, Stopwatch, cpu_seconds
from benchmarks.sqlite.clients.shared import (
    PATIENCE,
    Job,
    Once,
    Orders,
    Report,
    bodies,
    body_of,
    gaps,
    main,
    number_of,
    wait_until,
)

PATIENT = 60.0
"""Seconds that a connection waits for the file's lock."""
FILL_BATCH = 10_000

Taken = tuple[Any, "str | bytes"]
"""What is needed to settle a message, and its body."""


class Store(Protocol):
    """A queue in a file."""

    pause: float
    """Seconds between two looks into an empty queue."""
    one_by_one: bool
    """Each message is claimed by itself."""

    def put(self, body: bytes) -> None:
        """Write one message; it is committed on return."""

    def put_many(self, found: Sequence[bytes], window: int) -> None:
        """Write many, in transactions of ``window`` if it can."""

    def take(self, most: int) -> Sequence[Taken]:
        """Claim up to so many, without waiting."""

    def done(self, taken: Sequence[Taken]) -> None:
        """Settle them."""

    def pragmas(self) -> dict[str, str]:
        """What SQLite says of its connection."""

    def left(self) -> int:
        """Messages that are not settled."""

    def fill(self, found: Sequence[bytes]) -> None:
        """Write many in one transaction, however that is done fastest: it is not measured."""


Opened = Callable[[Path, str], Store]


def read_pragmas(connection: Any) -> dict[str, str]:
    """``journal_mode`` and ``synchronous`` as SQLite has them now, the second as a name."""
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    level = connection.execute("PRAGMA synchronous").fetchone()[0]
    return {"journal_mode": str(mode), "synchronous": ("OFF", "NORMAL", "FULL", "EXTRA")[level]}


def run(opened: Opened) -> None:
    """The command of such a client."""
    known = {
        "publish-one": publish_one,
        "publish": publish,
        "handle": handle,
        "processes-publisher": team_publish,
        "processes-consumer": team_consume,
        "latency-publisher": idle_publish,
        "latency-consumer": team_consume,
        "claim": claim,
        "idle": idle,
    }
    works: dict[str, Once] = {name: partial(_opened, opened, work) for name, work in known.items()}
    main(works)


def _opened(opened: Opened, work: Callable[[Store, Job], Report], job: Job) -> Report:
    return work(opened(job.file, job.synchronous), job)


def publish_one(store: Store, job: Job) -> Report:
    """One after the other, each committed before the next."""
    found, latencies, now, put, watch = bodies(job), [0.0] * job.messages, time.perf_counter, store.put, Stopwatch()
    watch.start()
    for number, body in enumerate(found):
        began = now()
        put(body)
        latencies[number] = now() - began
    return _ended(store, watch.stop(job.messages, latencies))


def publish(store: Store, job: Job) -> Report:
    """Many, in transactions of the window."""
    found, watch = bodies(job), Stopwatch()
    watch.start()
    store.put_many(found, job.window)
    return _ended(store, watch.stop(job.messages))


def handle(store: Store, job: Job) -> Report:
    """Written, then claimed and settled. One after the other: the file has one writer at a time anyway."""
    found, seen, watch = bodies(job), 0, Stopwatch()
    watch.start()
    store.put_many(found, job.window)
    while taken := store.take(job.prefetch):
        seen += len(taken)
        store.done(taken)
    sample = watch.stop(job.messages)
    if seen != job.messages:
        raise SystemExit(f"{seen} of {job.messages} messages were handled")
    return _ended(store, sample)


def team_publish(store: Store, job: Job) -> Report:
    """One publisher of several."""
    found = bodies(job)
    Orders().wait_go()
    began, cpu = time.perf_counter(), cpu_seconds()
    store.put_many(found, job.window)
    return Report(began=began, ended=time.perf_counter(), cpu=cpu_seconds() - cpu, pragmas=store.pragmas())


def idle_publish(store: Store, job: Job) -> Report:
    """A message now and then; its number is the time at which it is written."""
    orders = Orders()
    orders.wait_go()
    began, cpu = time.perf_counter(), cpu_seconds()
    for gap in gaps(job.messages):
        wait_until(time.perf_counter() + gap)
        store.put(body_of(time.perf_counter_ns(), job.body))
    return Report(began=began, ended=time.perf_counter(), cpu=cpu_seconds() - cpu, pragmas=store.pragmas())


def team_consume(store: Store, job: Job) -> Report:
    """One consumer of several; it looks again after a pause where there is nothing."""
    orders, numbers, ended = Orders(), list[int](), 0.0
    latencies: list[float] = []
    orders.wait_go()
    began, cpu = time.perf_counter(), cpu_seconds()
    while time.perf_counter() < began + PATIENCE:
        taken = store.take(job.prefetch)
        ended = time.perf_counter() if taken else ended
        for _, body in taken:
            numbers.append(number_of(body))
            latencies.append(time.perf_counter() - numbers[-1] / 1e9)
        store.done(taken)
        if not taken and orders.stopped(store.pause, len(numbers)):
            break
    return Report(
        began=began,
        ended=ended,
        cpu=cpu_seconds() - cpu,
        numbers=numbers,
        latencies=latencies if job.work == "latency" else (),
        pragmas=store.pragmas(),
    )


def claim(store: Store, job: Job) -> Report:
    """Batches from a queue of so many messages; nothing is settled, and a second sample has the same file."""
    missing = job.queued - store.left()
    for first in range(0, missing if missing > job.queued // 2 else 0, FILL_BATCH):
        count = min(FILL_BATCH, missing - first)
        store.fill([body_of(number, job.body) for number in range(first, first + count)])
    batches, claimed, watch = [0.0] * (job.messages // job.prefetch), 0, Stopwatch()
    for number in range(-1, len(batches)):
        if number == 0:
            watch.start()
        began, count = time.perf_counter(), 0
        while count < job.prefetch:
            count += len(store.take(1 if store.one_by_one else job.prefetch - count)) or _nothing()
            if time.perf_counter() > began + job.limit:
                break
        if number >= 0:
            batches[number] = (time.perf_counter() - began) / count * job.prefetch
            claimed += count
    return Report(sample=watch.stop(claimed, batches), pragmas=store.pragmas())


def _nothing() -> int:
    raise SystemExit("there was nothing to claim")


def idle(store: Store, job: Job) -> Report:
    """Wait for so many seconds in an empty queue."""
    watch, end = Stopwatch(), time.perf_counter() + job.messages
    watch.start()
    while time.perf_counter() < end:
        store.take(job.prefetch)
        time.sleep(store.pause)
    return Report(sample=watch.stop(job.messages), pragmas=store.pragmas())


def _ended(store: Store, sample: Sample) -> Report:
    return Report(sample=sample, left=store.left(), pragmas=store.pragmas())
