"""eventbus for threads on ``sqlite:///``: ``publish``, ``publish_many`` and a typed handler."""

from __future__ import annotations

import threading
import time

from benchmarks.peers.clients.eventbus_event import Measured
from benchmarks.runner import Stopwatch, cpu_seconds
from benchmarks.sqlite.clients.eventbus_event import QUEUE, claim, declared, events, left, text, url
from benchmarks.sqlite.clients.shared import PATIENCE, Job, Orders, Report, gaps, main, wait_until
from eventbus import EventBus

TELL = 0.02
"""Seconds between two looks whether to stop, and two words on how much is handled."""


def bus_of(job: Job) -> EventBus:
    """A bus that waits as long as the sample may last."""
    return EventBus(url(job), service="benchmarks", window=job.window, timeout=PATIENCE)


def publish_one(job: Job) -> Report:
    """One after the other."""
    declared(job)
    with bus_of(job) as bus:
        found, latencies, now, watch = list(events(job)), [0.0] * job.messages, time.perf_counter, Stopwatch()
        watch.start()
        for number, event in enumerate(found):
            began = now()
            bus.publish(event)
            latencies[number] = now() - began
        sample = watch.stop(job.messages, latencies)
    return Report(sample=sample, left=left(job))


def publish(job: Job) -> Report:
    """All of them within the window."""
    declared(job)
    with bus_of(job) as bus:
        watch = Stopwatch()
        watch.start()
        bus.publish_many(events(job))
        sample = watch.stop(job.messages)
    return Report(sample=sample, left=left(job))


def handle(job: Job) -> Report:
    """Published by one thread and handled by another, on one bus."""
    watch, open_, done = Stopwatch(), job.messages, threading.Event()
    with bus_of(job) as bus:

        @bus.subscribe(Measured, queue=QUEUE, prefetch=job.prefetch, concurrency=1)
        def handle(event: Measured) -> None:
            nonlocal open_
            open_ -= 1
            if open_ == 0:
                done.set()

        bus.wait_ready()
        watch.start()
        bus.publish_many(events(job))
        if not done.wait(PATIENCE):
            raise SystemExit(f"{open_} messages did not come")
        sample = watch.stop(job.messages)
    return Report(sample=sample, left=left(job))


def team_publish(job: Job) -> Report:
    """One publisher of several."""
    orders = Orders()
    with bus_of(job) as bus:
        bus.wait_ready()
        orders.wait_go()
        began, cpu = time.perf_counter(), cpu_seconds()
        bus.publish_many(events(job))
        return Report(began=began, ended=time.perf_counter(), cpu=cpu_seconds() - cpu)


def idle_publish(job: Job) -> Report:
    """A message now and then; its number is the time at which it is published."""
    orders, filler = Orders(), text(job)
    with bus_of(job) as bus:
        bus.wait_ready()
        orders.wait_go()
        began, cpu = time.perf_counter(), cpu_seconds()
        for gap in gaps(job.messages):
            wait_until(time.perf_counter() + gap)
            bus.publish(Measured(number=time.perf_counter_ns(), text=filler))
        return Report(began=began, ended=time.perf_counter(), cpu=cpu_seconds() - cpu)


def team_consume(job: Job) -> Report:
    """One consumer of several, until it is told to stop."""
    orders, numbers, latencies, ended, now = Orders(), list[int](), list[float](), 0.0, time.perf_counter
    with bus_of(job) as bus:

        @bus.subscribe(Measured, queue=QUEUE, prefetch=job.prefetch, concurrency=1)
        def handle(event: Measured) -> None:
            nonlocal ended
            ended = now()
            latencies.append(ended - event.number / 1e9)
            numbers.append(event.number)

        bus.wait_ready(PATIENCE)
        orders.wait_go()
        began, cpu = now(), cpu_seconds()
        while not orders.stopped(TELL, len(numbers)) and now() < began + PATIENCE:
            pass
        cpu = cpu_seconds() - cpu
    kept = latencies if job.work == "latency" else ()
    return Report(began=began, ended=ended, cpu=cpu, numbers=numbers, latencies=kept)


def idle(job: Job) -> Report:
    """A bus that waits for so many seconds, after one message."""
    watch, came = Stopwatch(), threading.Event()
    with bus_of(job) as bus:

        @bus.subscribe(Measured, queue=QUEUE, prefetch=job.prefetch)
        def handle(event: Measured) -> None:
            came.set()

        bus.wait_ready()
        bus.publish(Measured(number=0))
        came.wait(PATIENCE)
        watch.start()
        wait_until(time.perf_counter() + job.messages)
        return Report(sample=watch.stop(job.messages))


if __name__ == "__main__":
    main(
        {
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
    )
