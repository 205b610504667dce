"""Threads for handlers."""

from __future__ import annotations

import logging
import threading

import pytest

from eventbus._bus._workers import Slots, Watch, Workers
from eventbus.testing import eventually


def test_never_more_than_concurrency_at_once_and_nothing_is_left_out() -> None:
    workers, lock, done = Workers("t"), threading.Lock(), threading.Event()
    running = most = handled = 0

    def work(item: int) -> None:
        nonlocal running, most, handled
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1
            handled += 1
            if handled == 2000:
                done.set()

    slots = Slots(3, workers, work)
    for item in range(2000):
        slots.put(item)
    assert done.wait(10)
    assert most <= 3
    workers.close(5)


def test_one_slot_keeps_the_order() -> None:
    workers, seen, done = Workers("t"), [], threading.Event()

    def work(item: int) -> None:
        seen.append(item)
        if item == 499:
            done.set()

    slots = Slots(1, workers, work)
    for item in range(500):
        slots.put(item)
    assert done.wait(10)
    assert seen == list(range(500))
    workers.close(5)


def test_what_no_thread_has_begun_can_be_taken_back() -> None:
    workers, begun, go = Workers("t"), threading.Event(), threading.Event()

    def work(item: int) -> None:
        begun.set()
        go.wait(10)

    slots = Slots(1, workers, work)
    for item in range(3):
        slots.put(item)
    assert begun.wait(10)
    assert slots.clear() == [1, 2]
    go.set()
    workers.close(5)


def test_closing_leaves_no_idle_thread() -> None:
    before = set(threading.enumerate())
    workers, ran = Workers("t"), threading.Semaphore(0)
    for _ in range(20):
        workers.submit(ran.release)
    for _ in range(20):
        assert ran.acquire(timeout=10)
    workers.close(5)
    assert set(threading.enumerate()) <= before, "one of another test may have ended meanwhile"


def test_a_stuck_handler_does_not_hold_up_closing() -> None:
    workers, go = Workers("t"), threading.Event()
    workers.submit(go.wait)
    workers.close(0.05)
    go.set()


def test_a_handler_past_its_timeout_is_named_and_counted_until_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, float]] = []
    watch = Watch(lambda name, timeout: told.append((name, timeout)))
    with caplog.at_level(logging.WARNING, "eventbus.handler"):
        number = watch.begin("slow one", 0.01)
        eventually(lambda: told == [("slow one", 0.01)])
        assert watch.overdue == 1
        watch.end(number)
    watch.close()
    assert watch.overdue == 0
    assert "slow one" in caplog.text


def test_a_handler_that_ends_in_time_is_not_reported() -> None:
    watch = Watch()
    watch.end(watch.begin("quick", 30))
    watch.close()
    assert watch.overdue == 0
