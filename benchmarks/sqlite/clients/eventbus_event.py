"""What both eventbus clients need: the events, the queue, what is left in it, and claims by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import orjson

from benchmarks.peers.clients.eventbus_event import Measured
from benchmarks.runner import Sample, cpu_seconds
from benchmarks.sqlite.clients.shared import PATIENCE, Job, Report
from eventbus import EventBus, Queue
from eventbus._plugins import transport_from
from eventbus.transport import ConsumerSpec, Incoming, InspectsQueues, LinkSettings, LinkStatus, QueueCount, SyncLink

QUEUE = Queue(name="benchmarks.measured")


def url(job: Job) -> str:
    """The bus in the job's file."""
    return f"sqlite:///{quote(str(job.file))}?synchronous={job.synchronous}"


def text(job: Job) -> str:
    """What makes an event as long as the other clients' bodies."""
    return "x" * max(0, job.body - len(orjson.dumps(Measured(number=job.first))))


def events(job: Job) -> Iterator[Measured]:
    """As many as asked for, each made when it is published."""
    filler = text(job)
    return (Measured(number=number, text=filler) for number in range(job.first, job.first + job.messages))


def declared(job: Job) -> None:
    """See to the queue, while nobody consumes from it."""
    with EventBus(url(job), service="benchmarks") as bus:
        bus.subscribe(Measured, queue=QUEUE)(_never)
        bus.wait_ready(PATIENCE)


def _never(event: Measured) -> None:
    """Stands for the handler while the queue is declared."""


class Listener:
    """A consumer that counts and keeps nothing."""

    def __init__(self, most: int) -> None:
        self._left, self.full, self.ended = most, threading.Event(), threading.Event()
        self.running = threading.Event()

    def delivered(self, incoming: Incoming, /) -> None:
        """One more."""
        self._left -= 1
        if self._left <= 0:
            self.full.set()

    def started(self, queue: str, /) -> None:
        """It runs."""
        self.running.set()

    def stopped(self, error: Exception | None, /) -> None:
        """It has ended, and what it held has gone back."""
        self.ended.set()


@contextmanager
def linked(job: Job) -> Iterator[SyncLink]:
    """A link without a bus."""
    link: SyncLink = transport_from(url(job)).sync_link(LinkSettings(service="benchmarks"), _ignored)
    try:
        link.open()
        link.wait_ready(PATIENCE)
        yield link
    finally:
        link.close(10.0)


def _ignored(status: LinkStatus) -> None:
    """Of interest is only what is measured."""


def left(job: Job) -> int:
    """Messages in the queue while nobody holds any."""
    found: list[int | Exception] = []
    counted, listener = threading.Event(), Listener(1)

    def done(count: QueueCount | Exception) -> None:
        # In the link's thread, as deliveries are: the one message that the consumer may have is counted once.
        found.append(count if isinstance(count, Exception) else count.ready + listener.full.is_set())
        counted.set()

    with linked(job) as link:
        assert isinstance(link, InspectsQueues)
        link.consume(ConsumerSpec(name="left", queue=QUEUE, prefetch=1, inspect=True), listener)
        _wait(listener.running)
        link.count("left", done)
        _wait(counted)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def claim(job: Job) -> Report:
    """From asking for a batch to having it: a consumer that starts until it has its prefetch, then the next one.

    Between the two, which is not measured, everything goes back: consumers at the same time would share the queue.
    """
    fill(job)
    batches, cpu = [0.0] * (job.messages // job.prefetch), 0.0
    spec = ConsumerSpec(name="claim", queue=QUEUE, prefetch=job.prefetch)
    with linked(job) as link:
        for number in range(-1, len(batches)):
            listener, began, used = Listener(job.prefetch), time.perf_counter(), cpu_seconds()
            link.consume(spec, listener)
            _wait(listener.full)
            if number >= 0:
                batches[number] = time.perf_counter() - began
                cpu += cpu_seconds() - used
            link.release(spec.name)
            _wait(listener.ended)
    return Report(sample=Sample(job.messages, sum(batches), cpu, batches))


def fill(job: Job) -> None:
    """So many messages in the queue, unless they are there from the sample before: closing gave them back."""
    declared(job)
    if left(job) >= job.queued:
        return
    filler = text(job)
    with EventBus(url(job), service="benchmarks", window=10_000, timeout=PATIENCE) as bus:
        bus.publish_many(Measured(number=number, text=filler) for number in range(job.queued))


def _wait(moment: threading.Event) -> None:
    if not moment.wait(PATIENCE):
        raise SystemExit("the link did not answer")
