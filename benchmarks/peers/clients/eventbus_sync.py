"""eventbus for threads: ``publish_many``, and a typed handler."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.peers.clients.eventbus_event import Answered, Asked, Measured, events, existing, first, queue
from benchmarks.peers.clients.shared import PATIENCE, SOURCE, Job, main
from benchmarks.runner import Sample, Stopwatch
from eventbus import EventBus


def publish(job: Job) -> Sample:
    """All of them within the window."""
    with EventBus(existing(job.url), service=SOURCE, window=job.window, timeout=PATIENCE) as bus:
        bus.publish(first(job))
        watch = Stopwatch()
        watch.start()
        bus.publish_many(events(job))
        return watch.stop(job.messages)


def publish_one(job: Job) -> Sample:
    """One after the other."""
    with EventBus(existing(job.url), service=SOURCE, timeout=PATIENCE) as bus:
        event, latencies, now, watch = first(job), [0.0] * job.messages, time.perf_counter, Stopwatch()
        bus.publish(event)
        watch.start()
        for number in range(job.messages):
            began = now()
            bus.publish(event)
            latencies[number] = now() - began
        return watch.stop(job.messages, latencies)


def consume(job: Job) -> Sample:
    """A backlog."""
    watch, left, done = Stopwatch(), job.messages, threading.Event()
    with EventBus(existing(job.url), service=SOURCE) as bus:

        @bus.subscribe(Measured, queue=queue(job), prefetch=job.prefetch, concurrency=1)
        def handle(event: Measured) -> None:
            nonlocal left
            watch.start_once()
            left -= 1
            if left == 0:
                done.set()

        if not done.wait(PATIENCE):
            raise TimeoutError(f"{left} messages did not come")
        return watch.stop(job.messages)


def rpc(job: Job) -> Sample:
    """Questions, each open one asked by a thread, with a bus for each side."""
    numbers, latencies = itertools.count(), [0.0] * job.messages
    with EventBus(job.url, service=SOURCE) as server, EventBus(job.url, service=SOURCE) as client:

        @server.respond(Asked, prefetch=job.prefetch, concurrency=1)
        def answer(asked: Asked) -> Answered:
            return Answered(asked.number)

        server.wait_ready()
        client.request(Asked(-1))

        def ask() -> None:
            while (number := next(numbers)) < job.messages:
                began = time.perf_counter()
                client.request(Asked(number), timeout=PATIENCE)
                latencies[number] = time.perf_counter() - began

        with ThreadPoolExecutor(job.window) as threads:
            watch = Stopwatch()
            watch.start()
            for asking in [threads.submit(ask) for _ in range(job.window)]:
                asking.result()
            return watch.stop(job.messages, latencies)


if __name__ == "__main__":
    main({"publish": publish, "publish-one": publish_one, "consume": consume, "rpc": rpc})
