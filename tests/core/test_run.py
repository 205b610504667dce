"""``run`` takes uvloop where it is installed, and does without; ``bus.run`` ends with a stop from elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time

import pytest
import uvloop

from eventbus import AsyncEventBus, EventBus, StopReport, run
from eventbus.testing import eventually


async def loop_of_a_bus() -> type:
    async with AsyncEventBus("memory://run") as bus:
        await bus.publish({"a": 1}, topic="run.tried")
        return type(asyncio.get_running_loop())


def test_an_installed_uvloop_is_used() -> None:
    assert run(loop_of_a_bus()) is uvloop.Loop


def test_without_uvloop_it_is_asyncios_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert issubclass(run(loop_of_a_bus()), asyncio.SelectorEventLoop)


def test_what_the_coroutine_raises_comes_out() -> None:
    async def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run(fails())


def test_two_signals_at_once_stop_a_sync_bus_at_once() -> None:
    bus = EventBus("memory://hurried", service="hurried", grace=60.0)
    begun, go = threading.Event(), threading.Event()

    @bus.subscribe(pattern="x", name="x")
    def slow(event: object) -> None:
        begun.set()
        go.wait(60)

    before = signal.getsignal(signal.SIGINT)

    def both() -> None:
        begun.wait(10)
        eventually(lambda: signal.getsignal(signal.SIGINT) is not before)  # which is taken last
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)

    hurrying = threading.Thread(target=both)
    hurrying.start()
    bus.start()
    bus.publish({}, topic="x")
    began = time.monotonic()
    try:
        assert bus.run() == StopReport(abandoned=1)
    finally:
        go.set()
        hurrying.join()
    assert time.monotonic() - began < 20
    assert bus.health().status == "stopped"


@pytest.mark.parametrize("url", ["memory://stopped", "amqp://guest:guest@127.0.0.1:1/"])  # there, and out of reach
def test_a_sync_bus_that_is_stopped_from_elsewhere_ends_its_run(url: str) -> None:
    bus = EventBus(url, service="stopped", grace=1.0)
    stopper = threading.Timer(0.2, bus.stop)
    stopper.start()
    assert bus.run() == StopReport()
    stopper.join()


@pytest.mark.parametrize("url", ["memory://stopped", "amqp://guest:guest@127.0.0.1:1/"])
def test_an_async_bus_that_is_stopped_from_elsewhere_ends_its_run(url: str) -> None:
    async def both() -> StopReport:
        bus = AsyncEventBus(url, service="stopped", grace=1.0)
        running = asyncio.create_task(bus.run())
        await asyncio.sleep(0.2)
        await bus.stop()
        async with asyncio.timeout(10):
            return await running

    assert asyncio.run(both()) == StopReport()
