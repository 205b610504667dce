"""Measuring for tune: samples of publishing and handling, on queues of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from benchmarks.runner import Sample, Stopwatch
from benchmarks.work import Countdown, Job, Measured, declared, new_job
from eventbus import AsyncEventBus, EventBus, EventBusError

SERVICE = "eventbus-tune"
CONNECT = 10.0
FIRST = 5.0
TIMEOUT = 30.0
MOST_LEFT = 20_000
"""Events left in the queue that is published to."""


class TuneError(Exception):
    """The broker cannot be measured; the text says why and what to do, without a password."""


class Measure(Protocol):
    """What the sweeps ask for."""

    def publish(self, bus: str, window: int, messages: int) -> Sample:
        """Publish and have confirmed; with window 1, the latencies are those of each."""

    def consume(self, bus: str, prefetch: int, concurrency: int, handler_ms: float, messages: int) -> Sample:
        """Handle a backlog."""


class Broker:
    """The real one. The queues have names of their own, are emptied, and expire two minutes after their last use.

    Make it with :func:`broker`.
    """

    def __init__(self, url: str, published: Job, handled: Job, publisher: EventBus) -> None:
        self._url, self._published, self._handled, self._publisher = url, published, handled, publisher
        self._left = 1  # the one that was published to see whether the broker takes any

    def publish(self, bus: str, window: int, messages: int) -> Sample:
        """See :class:`Measure`."""
        if self._left > MOST_LEFT:
            self.drain()
        self._left += messages + 1
        if bus == "sync":
            return _sync_publish(self._url, self._published, window, messages)
        return asyncio.run(_async_publish(self._url, self._published, window, messages))

    def consume(self, bus: str, prefetch: int, concurrency: int, handler_ms: float, messages: int) -> Sample:
        """See :class:`Measure`. The queue is empty again afterwards."""
        self._publisher.publish_many(self._handled.events(messages))
        once = _Handling(self._url, self._handled, prefetch, concurrency, handler_ms / 1000, messages)
        return once.sync_once() if bus == "sync" else asyncio.run(once.async_once())

    def drain(self) -> None:
        """Take out what was published: it shall neither fill the broker nor slow later samples down."""
        countdown = Countdown(self._left)
        with EventBus(self._url, service=SERVICE) as bus:

            @bus.subscribe(self._published.event, queue=self._published.queue, settle="receipt", prefetch=1000)
            def drop(event: Measured) -> None:
                countdown.one()

            countdown.wait()
        self._left = 0


@contextmanager
def broker(url: str) -> Iterator[Broker]:
    """Connect, see whether the broker takes events, and declare the queues.

    :raises TuneError: it cannot be reached, refuses us, or takes no publishes now.
    """
    published, handled = new_job(), new_job()
    try:
        _reach(url)
        with declared(url, published) as publisher, declared(url, handled):
            _try(publisher, published)
            real = Broker(url, published, handled, publisher)
            yield real
            real.drain()
    except (EventBusError, TimeoutError) as error:
        raise TuneError(f"{type(error).__name__}: {error}") from error


def _reach(url: str) -> None:
    """Says soon that nobody is there; a service would wait longer."""
    bus = EventBus(url, service=SERVICE)
    try:
        bus.start(timeout=CONNECT)
    finally:
        bus.stop(0.0)


def _try(publisher: EventBus, job: Job) -> None:
    """A broker in alarm shows it at the first publish."""
    try:
        publisher.publish(job.first(), timeout=FIRST)
    except EventBusError as error:
        blocked = publisher.health().blocked
        if blocked is None:
            raise
        raise TuneError(f"the broker takes no publishes now ({blocked}): measure when its alarm is over") from error


def _sync_publish(url: str, job: Job, window: int, messages: int) -> Sample:
    with EventBus(url, service=SERVICE, window=window, timeout=TIMEOUT) as bus:
        bus.publish(job.first())
        events, watch = job.events(messages), Stopwatch()
        if window > 1:
            watch.start()
            bus.publish_many(events)
            return watch.stop(messages)
        latencies = []
        watch.start()
        for event in events:
            began = time.perf_counter()
            bus.publish(event)
            latencies.append(time.perf_counter() - began)
        return watch.stop(messages, latencies)


async def _async_publish(url: str, job: Job, window: int, messages: int) -> Sample:
    async with AsyncEventBus(url, service=SERVICE, window=window, timeout=TIMEOUT) as bus:
        await bus.publish(job.first())
        events, watch = job.events(messages), Stopwatch()
        if window > 1:
            watch.start()
            await bus.publish_many(events)
            return watch.stop(messages)
        latencies = []
        watch.start()
        for event in events:
            began = time.perf_counter()
            await bus.publish(event)
            latencies.append(time.perf_counter() - began)
        return watch.stop(messages, latencies)


class _Handling:
    """A backlog and its handler. The clock runs from the first delivery to the end of the last handler."""

    def __init__(self, url: str, job: Job, prefetch: int, concurrency: int, seconds: float, messages: int) -> None:
        self._url, self._job, self._messages = url, job, messages
        self._options = {"queue": job.queue, "prefetch": prefetch, "concurrency": concurrency}
        self._seconds = seconds
        self._patience = 30.0 + 4 * seconds * messages

    def sync_once(self) -> Sample:
        watch, countdown, wait = Stopwatch(), Countdown(self._messages), self._seconds
        with EventBus(self._url, service=SERVICE) as bus:

            def handle(event: Measured) -> None:
                watch.start_once()
                if wait:
                    time.sleep(wait)
                countdown.one()

            bus.subscribe(self._job.event, **self._options)(handle)
            countdown.wait(self._patience)
            return watch.stop(self._messages)

    async def async_once(self) -> Sample:
        watch, left, done, wait = Stopwatch(), self._messages, asyncio.Event(), self._seconds
        async with AsyncEventBus(self._url, service=SERVICE) as bus:

            async def handle(event: Measured) -> None:
                nonlocal left
                watch.start_once()
                if wait:
                    await asyncio.sleep(wait)
                left -= 1
                if left == 0:
                    done.set()

            bus.subscribe(self._job.event, **self._options)(handle)
            async with asyncio.timeout(self._patience):
                await done.wait()
            return watch.stop(self._messages)
