"""The events that the benchmarks send, and the queues that they use."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import orjson

from eventbus import EventBus, Queue, event

PATIENCE = 120.0
SMALL = 256
"""Bytes of a usual body: here the client's own cost shows most."""

QueueType = Literal["quorum", "classic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """An event of a few fields, and of any size by its text."""

    number: int
    name: str = "Ada Lovelace"
    email: str = "ada@example.com"
    country: str = "se"
    text: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """What one sample publishes, and where it goes: an event class and queues that no other sample shares.

    The queues of earlier samples live on for a while, until they expire; were the topic theirs too, the broker would
    go on filling them.
    """

    event: type[Measured]
    queues: tuple[Queue, ...]
    body_bytes: int

    @property
    def queue(self) -> Queue:
        """The only one, or the first."""
        return self.queues[0]

    def events(self, count: int) -> Iterator[Measured]:
        """``count`` events of so many bytes as JSON, give or take the digits of their number."""
        empty = len(orjson.dumps(self.event(number=10_000)))
        text = "x" * max(0, self.body_bytes - empty)
        return (self.event(number=number, text=text) for number in range(count))

    def first(self) -> Measured:
        """For setting up: number -1."""
        return self.event(number=-1)


def new_job(type: QueueType | None = None, *, queues: int = 1, body_bytes: int = SMALL) -> Job:
    """A job with durable queues as groups have them, of the transport's usual type unless one is given."""
    run = uuid.uuid4().hex[:12]
    made = tuple(Queue(name=f"eventbus-benchmarks.{run}.{n}", type=type, expires=120.0) for n in range(queues))

    @event(f"benchmarks.measured.{run}", mandatory=True)
    @dataclass(frozen=True, slots=True, kw_only=True)
    class MeasuredHere(Measured):
        pass

    return Job(MeasuredHere, made, body_bytes)


@contextmanager
def declared(url: str, job: Job) -> Iterator[EventBus]:
    """A bus of which the queues exist and take the events, while nobody consumes from them."""
    with EventBus(url, service="benchmarks") as keeper:  # a broker in memory lives as long as a bus on it
        with EventBus(url, service="benchmarks") as consumer:
            for queue in job.queues:
                consumer.subscribe(job.event, name=queue.name, queue=queue)(_never)
            consumer.wait_ready(60)
        yield keeper


def _never(event: Measured) -> None:
    """Stands for the handler while the queue is declared."""


class Countdown:
    """Lets the measuring thread wait until so many have been handled; calls what is named ``at`` a number left."""

    def __init__(self, count: int, *, at: Mapping[int, Callable[[], None]] | None = None) -> None:
        self._left = count
        self._at = at or {}
        self._lock = threading.Lock()
        self._zero = threading.Event()

    def one(self) -> None:
        """One less to wait for."""
        with self._lock:
            self._left -= 1
            left = self._left
            if left == 0:
                self._zero.set()
        if left in self._at:
            self._at[left]()

    def wait(self, patience: float = PATIENCE) -> None:
        """Until there is none left."""
        if not self._zero.wait(patience):
            raise TimeoutError(f"{self._left} messages did not come within {patience:g} s")
