"""Buses in whole processes: signals, forks, exits."""

import signal
import subprocess
import sys
import time

import pytest

SERVE = """
import sys, time, threading
from dataclasses import dataclass
from eventbus import EventBus, event

@event("slow")
@dataclass
class Slow:
    seconds: float

bus = EventBus("memory://", service="s", grace=float(sys.argv[2]))

@bus.subscribe(Slow)
def handle(event: Slow) -> None:
    print("begun", flush=True)
    time.sleep(event.seconds)
    print("ended", flush=True)

def feed() -> None:
    while "ready" not in bus.health().consumers.values():
        time.sleep(0.01)
    bus.publish(Slow(float(sys.argv[1])))

threading.Thread(target=feed).start()
report = bus.run()
print("report", report.abandoned, report.unknown, flush=True)
"""

SERVE_ASYNC = """
import asyncio, sys
from dataclasses import dataclass
from eventbus import AsyncEventBus, event

@event("slow")
@dataclass
class Slow:
    seconds: float

async def main() -> None:
    bus = AsyncEventBus("memory://", service="s", grace=float(sys.argv[2]))

    @bus.subscribe(Slow)
    async def handle(event: Slow) -> None:
        print("begun", flush=True)
        await asyncio.sleep(event.seconds)
        print("ended", flush=True)

    async def feed() -> None:
        while "ready" not in bus.health().consumers.values():
            await asyncio.sleep(0.01)
        await bus.publish(Slow(float(sys.argv[1])))

    feeding = asyncio.create_task(feed())
    report = await bus.run()
    print("report", report.abandoned, report.unknown, flush=True)

asyncio.run(main())
"""

both = pytest.mark.parametrize("program", [SERVE, SERVE_ASYNC], ids=["sync", "async"])


def begin(program: str, seconds: float, grace: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(seconds), str(grace)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n", process.communicate()
    return process


@both
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_running_handler_and_exits_cleanly(program: str, number: signal.Signals) -> None:
    process = begin(program, 0.5, 10)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert out == "ended\nreport 0 0\n", err
    assert process.returncode == 0


@both
def test_past_the_grace_period_the_handler_is_abandoned(program: str) -> None:
    process = begin(program, 60, 0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert out == "report 1 0\n", err
    assert time.monotonic() - began < 0.5 + 1 + 2  # grace, close, and a busy machine's interpreter exit


@both
def test_a_second_signal_stops_at_once(program: str) -> None:
    process = begin(program, 60, 60)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    until = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < until:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(0.3)
        except subprocess.TimeoutExpired:
            continue
    out, err = process.communicate(timeout=20)
    assert "report" in out, err
    assert time.monotonic() - began < 10


FORK = """
import os, sys, time
from dataclasses import dataclass
from eventbus import EventBus, event

@event("x")
@dataclass
class X:
    n: int

bus = EventBus("memory://", service="s")
seen = []
bus.subscribe(X)(lambda event: seen.append(event.n))

def came(number: int) -> bool:
    until = time.monotonic() + 5
    while number not in seen and time.monotonic() < until:
        time.sleep(0.01)
    return number in seen

bus.start()
bus.publish(X(1))
child = os.fork()
if child == 0:
    bus.start()
    bus.publish(X(2))
    os._exit(0 if came(2) and bus.stop().clean else 1)
_, status = os.waitpid(child, 0)
bus.publish(X(3))
good = came(3) and 2 not in seen
bus.stop()
sys.exit(os.waitstatus_to_exitcode(status) or (0 if good else 2))
"""


def test_a_forked_child_opens_its_own_link() -> None:
    run = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr


def test_leaving_the_interpreter_without_stop_does_not_hang() -> None:
    program = SERVE.split("threading.Thread")[0] + "bus.start()\nbus.publish(Slow(60))\n"
    run = subprocess.run([sys.executable, "-c", program, "60", "60"], capture_output=True, text=True, timeout=15)
    assert run.returncode == 0, run.stderr
