"""The event that the benchmarks send, and the queue that they use."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from eventbus import EventBus, Queue, event

PATIENCE = 120.0


@event("benchmarks.measured")
@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A small event, about 100 bytes as JSON: here the client's own cost shows most."""

    number: int
    name: str = "Ada Lovelace"
    email: str = "ada@example.com"
    country: str = "se"
    text: str = "a few more bytes"


def events(count: int) -> Iterator[Measured]:
    """``count`` events."""
    return (Measured(number=number) for number in range(count))


def new_queue() -> Queue:
    """A durable queue of the transport's default type, as a group has. It goes by itself when it is unused."""
    return Queue(name=f"eventbus-benchmarks.{uuid.uuid4().hex[:12]}", expires=120.0)


@contextmanager
def declared(url: str, queue: Queue) -> Iterator[EventBus]:
    """A bus of which ``queue`` exists and takes the events, while nobody consumes from it."""
    with EventBus(url, service="benchmarks") as keeper:  # a broker in memory lives as long as a bus on it
        with EventBus(url, service="benchmarks") as consumer:
            consumer.subscribe(Measured, queue=queue)(_never)
            consumer.wait_ready(30)
        yield keeper


def _never(event: Measured) -> None:
    """Stands for the handler while the queue is declared."""


class Countdown:
    """Lets the measuring thread wait until so many have been handled."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._zero = threading.Event()

    def one(self) -> None:
        """One less to wait for."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._zero.set()

    def wait(self) -> None:
        """Until there is none left."""
        if not self._zero.wait(PATIENCE):
            raise TimeoutError(f"{self._left} messages did not come within {PATIENCE:g} s")
