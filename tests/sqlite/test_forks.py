"""A process forks while its bus is open: it goes on unharmed, the child has a bus of its own, and neither hides the
other's death."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventbus import AsyncEventBus, Delivery
from eventbus.testing import eventually
from tests.faults.files import FAULTY
from tests.sqlite.files import opened

PARENT = '''
import os, sys, time, threading
from eventbus import EventBus
from eventbus.transport import Message
from eventbus_sqlite import _forking
from eventbus_sqlite._work import Task

url, kind, told = sys.argv[1], sys.argv[2], sys.argv[3]
sys.argv.append(str(os.getpid()))

def tell(line):
    with open(told, "a") as file:
        file.write(line + "\\n")

def handle(event):
    tell(f"{os.getpid()} handled {event['n']}")

def publish(bus, numbers):
    for number in numbers:
        bus.publish({"n": number}, topic="forks.step", type="forks.step")
        tell(f"{os.getpid()} published {number}")

def forked(bus):
    """Fork, and publish on both sides at once; the child with the bus that its parent has opened."""
    pid = os.fork()
    publish(bus, range(100, 130) if pid == 0 else range(200, 230))
    return pid

bus = EventBus(url, service="parent")
bus.subscribe(pattern="forks.#")(handle)
bus.start(timeout=20)
publish(bus, range(5))
if kind == "both":
    pid = forked(bus)
    if pid == 0:
        bus.stop()
        os._exit(0)
    os.waitpid(pid, 0)
    time.sleep(0.5)
    bus.stop()
elif kind in ("busy", "tainted"):
    _forking.PATIENCE = 20.0 if kind == "busy" else 0.2
    working = threading.Event()
    def work(store):
        working.set()
        time.sleep(1.0)
    bus._runtime.link._put(Task(work))
    working.wait(20)
    pid = os.fork()
    if pid == 0:
        try:
            publish(bus, [11])
        except Exception as error:
            tell(f"{os.getpid()} said {type(error).__name__} {error}")
        bus.stop()
        os._exit(0)
    publish(bus, [12])
    os.waitpid(pid, 0)
    bus.stop()
elif kind == "leaves first":
    pid = os.fork()
    if pid == 0:
        publish(bus, [21])
        while os.getppid() == int(sys.argv[4]):
            time.sleep(0.02)
        publish(bus, [22])
        bus.stop()
        tell(f"{os.getpid()} ended")
        os._exit(0)
    while "published 21" not in open(told).read():
        time.sleep(0.02)
    bus.stop()
    os._exit(0)
elif kind == "link":
    link = bus._runtime.link
    pid = os.fork()
    if pid == 0:
        message = Message(exchange="", topic="parent.handle", id="1", type="t", body=b"{}")
        link.publish_now(message, deadline=time.monotonic() + 5, done=lambda error: tell(f"0 said {error!r}"))
        os._exit(0)
    os.waitpid(pid, 0)
    publish(bus, [7])
    bus.stop()
elif kind == "outlived":
    bus.stop()
    held = EventBus(url, service="parent")
    started = threading.Event()
    def keep(event):
        started.set()
        time.sleep(600)
    held.subscribe(pattern="forks.#")(keep)
    held.start(timeout=20)
    publish(held, [1000])
    started.wait(20)
    if os.fork() == 0:
        tell(f"{os.getpid()} lives")
        time.sleep(60)
        os._exit(0)
    time.sleep(600)
tell(f"{os.getpid()} ended")
'''


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bus.db"


@pytest.fixture
def children() -> Iterator[list[int]]:
    pids: list[int] = []
    yield pids
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def run(path: Path, kind: str, told: Path) -> subprocess.Popen[bytes]:
    told.touch()
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", PARENT, f"sqlite:///{path}", kind, str(told)])


def lines(told: Path, word: str) -> list[str]:
    return [line for line in told.read_text().splitlines() if f" {word}" in line]


def test_parent_and_child_publish_on_and_nothing_is_lost(path: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    parent = run(path, "both", told)
    assert parent.wait(60) == 0
    published = {line.split()[2] for line in lines(told, "published")}
    assert published == {str(n) for n in (*range(5), *range(100, 130), *range(200, 230))}
    handled = [line.split() for line in lines(told, "handled")]
    assert {line[2] for line in handled} == published
    assert len(handled) == len(published)
    assert {int(line[0]) for line in handled} <= {int(line.split()[0]) for line in lines(told, "published")}
    with opened(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for what, query in FAULTY.items():
            assert not connection.execute(query).fetchall(), what
        assert connection.execute("SELECT count(*) FROM sessions").fetchall() == [(0,)]


def test_a_fork_waits_for_the_transaction_that_is_open(path: Path, tmp_path: Path) -> None:
    """Otherwise the child would find the file locked, by its own copy of the parent's connection, for ever."""
    told = tmp_path / "told"
    assert run(path, "busy", told).wait(60) == 0
    assert not lines(told, "said")
    assert lines(told, "published 11")
    assert lines(told, "published 12")


def test_a_child_that_was_forked_in_a_transaction_that_takes_long_is_told_so(path: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    assert run(path, "tainted", told).wait(60) == 0
    (said,) = lines(told, "said")
    assert f"{path} was in use by another thread when this process was forked" in said
    assert lines(told, "published 12")


def test_what_a_child_publishes_is_there_though_its_parent_has_closed_the_file(path: Path, tmp_path: Path) -> None:
    """As its only user, so it believed: then SQLite deletes the write-ahead log, with what the child has confirmed."""
    told = tmp_path / "told"
    assert run(path, "leaves first", told).wait(60) == 0
    eventually(lambda: lines(told, "ended"), 30, what="the end of the child")
    with opened(path) as connection:
        bodies = {body for (body,) in connection.execute("SELECT body FROM messages")}
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    handled = {line.split()[2] for line in lines(told, "handled")}
    assert handled | {body.decode().strip('{"n:}') for body in bodies} >= {"21", "22"}
    assert lines(told, "published 22")


def test_a_link_of_the_parent_is_closed_in_the_child(path: Path, tmp_path: Path) -> None:
    """It would write with the parent's connection, whose locks a child has not got."""
    told = tmp_path / "told"
    assert run(path, "link", told).wait(60) == 0
    (said,) = lines(told, "said")
    assert "BusClosed" in said
    assert lines(told, "published 7")


def test_a_killed_parent_is_found_dead_though_its_child_lives(path: Path, tmp_path: Path, children: list[int]) -> None:
    """The child has the parent's sockets from the fork; it must not keep them open."""
    told = tmp_path / "told"
    parent = run(path, "outlived", told)
    children.append(parent.pid)
    eventually(lambda: lines(told, "lives"), 30, what="the child")
    children.append(int(lines(told, "lives")[0].split()[0]))
    parent.kill()
    parent.wait(10)
    seen: list[Any] = []
    asyncio.run(take(f"sqlite:///{path}", seen))
    assert seen == [[1000, True]]
    os.kill(children[1], 0)  # it lives


async def take(url: str, seen: list[Any]) -> None:
    """What the dead parent held, well before its lease of half a minute is over."""
    async with AsyncEventBus(url, service="parent") as bus:

        async def handle(event: dict[str, Any], delivery: Delivery) -> None:
            seen.append([event["n"], delivery.redelivered])

        bus.subscribe(pattern="forks.#", name="keep")(handle)
        await bus.start(timeout=20)
        async with asyncio.timeout(15):
            while not seen:
                await asyncio.sleep(0.02)
