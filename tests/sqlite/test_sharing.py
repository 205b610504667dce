"""Several links on one file: waking, polling, commits in groups, leases, prefetch, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eventbus_sqlite import SQLiteTransport
from eventbus_sqlite._store import Store

from eventbus import AsyncEventBus, EventBus, Unroutable, event
from eventbus._topology import Queue
from eventbus.testing import eventually
from tests.sqlite.files import end_all_sessions, opened


@event("things.made", topic="things.made")
@dataclass(frozen=True)
class Made:
    number: int


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bus.db"


def consumer(path: Path, seen: Callable[[int], Any], *, lease: float = 30.0, **options: Any) -> EventBus:
    """A bus that hands the numbers on."""
    bus = EventBus(SQLiteTransport(path, lease=lease), service="consumer")

    @bus.subscribe(Made, **options)
    def handle(made: Made) -> None:
        seen(made.number)

    return bus


def test_another_link_hears_of_a_message_at_once(path: Path) -> None:
    times: list[float] = []
    with consumer(path, lambda number: times.append(time.monotonic())), EventBus(SQLiteTransport(path)) as publisher:
        waits = []
        for number in range(20):
            sent = time.monotonic()
            publisher.publish(Made(number))
            eventually(lambda number=number: len(times) > number)
            waits.append(times[number] - sent)
    assert sorted(waits)[10] < 0.5, "half a tick: without datagrams it would be a whole one"


def test_who_cannot_be_woken_looks_by_himself_and_soon_more_often(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in two containers that share a folder and no network.
    monkeypatch.setattr("eventbus_sqlite._waking.Waker.wake_others", lambda self, addresses: None)
    seen: list[float] = []
    with consumer(path, lambda number: seen.append(time.monotonic())), EventBus(SQLiteTransport(path)) as publisher:
        publisher.publish(Made(0))
        eventually(lambda: len(seen) == 1, 10)
        began = time.monotonic()
        for number in range(1, 6):
            publisher.publish(Made(number))
            eventually(lambda number=number: len(seen) > number, 10)
        assert time.monotonic() - began < 4, "five more took less than five ticks"


def test_publishes_of_several_threads_share_commits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = []
    commit = Store.commit
    monkeypatch.setattr(Store, "commit", lambda self: commits.append(1) or commit(self))
    with EventBus(SQLiteTransport(path)) as bus:
        bus.publish(Made(0))
        commits.clear()
        threads = [threading.Thread(target=bus.publish, args=(Made(number),)) for number in range(16)]
        with opened(path) as other:
            other.execute("BEGIN IMMEDIATE")  # what comes meanwhile waits together
            for thread in threads:
                thread.start()
            eventually(lambda: bus.health().publishes_in_flight == 16)
            other.execute("COMMIT")
        for thread in threads:
            thread.join()
    assert len(commits) <= 4


def test_publishes_of_one_turn_of_the_loop_share_a_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = []
    commit = Store.commit
    monkeypatch.setattr(Store, "commit", lambda self: commits.append(1) or commit(self))

    async def main() -> None:
        async with AsyncEventBus(SQLiteTransport(path)) as bus:
            await bus.publish(Made(0))
            commits.clear()
            await asyncio.gather(*(bus.publish(Made(number)) for number in range(100)))
            assert len(commits) <= 2

    asyncio.run(main())


def test_a_handler_may_run_longer_than_the_lease(path: Path) -> None:
    seen: list[int] = []

    def slowly(number: int) -> None:
        until = time.monotonic() + 1.6
        eventually(lambda: time.monotonic() > until)
        seen.append(number)

    with consumer(path, slowly, lease=0.5) as first, consumer(path, slowly, lease=0.5):
        first.publish(Made(1))
        eventually(lambda: seen == [1])
        first.publish(Made(2))
        eventually(lambda: seen == [1, 2])
        assert first.health().settlements_dropped == 0
        assert first.health().reconnects == 0


def test_a_late_settlement_is_refused_and_counted(path: Path) -> None:
    attempts: list[bool] = []
    held, go = threading.Event(), threading.Event()
    bus = EventBus(SQLiteTransport(path), service="consumer")

    @bus.subscribe(Made)
    def handle(made: Made) -> None:
        attempts.append(True)
        held.set()
        go.wait(20)

    with bus:
        bus.publish(Made(1))
        assert held.wait(10)
        end_all_sessions(path)  # what a lapsed lease comes to
        eventually(lambda: bus.health().reconnects == 1 and bus.health().status == "ready", 10)
        go.set()
        eventually(lambda: len(attempts) == 2)
        eventually(lambda: bus.health().settlements_dropped == 1)
        with opened(path) as connection:
            eventually(lambda: connection.execute("SELECT count(*) FROM messages").fetchone() == (0,))


def test_no_more_than_prefetch_is_held(path: Path) -> None:
    go = threading.Event()
    with consumer(path, lambda number: go.wait(20), prefetch=7, concurrency=2) as bus:
        bus.publish_many(Made(number) for number in range(30))
        with opened(path) as connection:
            held = lambda: connection.execute("SELECT count(*) FROM held").fetchone()[0]  # noqa: E731
            eventually(lambda: held() == 7)
            go.set()
            eventually(lambda: connection.execute("SELECT count(*) FROM messages").fetchone() == (0,))


def test_work_is_shared_out_though_one_could_take_it_all(path: Path) -> None:
    counts = {"one": 0, "two": 0}
    go = threading.Event()

    def counting(name: str) -> Callable[[int], None]:
        def count(number: int) -> None:
            counts[name] += 1
            go.wait(20)

        return count

    options = {"prefetch": 10, "concurrency": 10}
    with consumer(path, counting("one"), **options), consumer(path, counting("two"), **options) as two:
        two.publish_many(Made(number) for number in range(10))
        eventually(lambda: sum(counts.values()) == 10)
        go.set()
        assert min(counts.values()) >= 2, counts


def test_the_file_is_its_owners_alone(path: Path) -> None:
    with EventBus(SQLiteTransport(path)) as bus:
        bus.publish(Made(1))
        for file in path.parent.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file


def test_nothing_of_a_closed_bus_is_left(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with consumer(path, lambda number: None) as bus:
            bus.publish(Made(1))
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("eventbus-sqlite")]
    with opened(path) as connection:
        for table in ("sessions", "consumers", "held"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_a_file_that_was_deleted_is_noticed(path: Path) -> None:
    with EventBus(SQLiteTransport(path)) as bus:
        bus.publish(Made(1))
        for file in list(path.parent.iterdir()):
            file.unlink()
        eventually(lambda: bus.health().reconnects == 1 and bus.health().connected, 10)
        bus.publish(Made(2))
        assert path.exists()


def test_a_queue_that_is_deleted_is_declared_again(path: Path) -> None:
    seen: list[int] = []
    with consumer(path, seen.append, queue=Queue(name="made")) as bus:
        store = Store(path, SQLiteTransport(path).options)
        store.start(None, durable=False)
        store.delete_queue(store.queue("made"))
        store.commit()
        store.close()

        def arrives() -> bool:
            try:
                bus.publish(Made(1), mandatory=True)
            except Unroutable:
                return False
            return True

        eventually(arrives, 10)
        eventually(lambda: seen, 10)
