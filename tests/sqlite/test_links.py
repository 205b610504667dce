"""What a link does when something around it goes wrong: locks, loops that end, threads that are taken."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from eventbus_sqlite import SQLiteTransport

from eventbus import AsyncEventBus, BusClosed, ConfigurationError, EventBus, NotSent, Unroutable
from eventbus.testing import eventually
from eventbus.transport import Exchange, LinkSettings, LinkStatus, Message, Phase, Topology
from tests.sqlite.commands import Written, make_file, office
from tests.sqlite.files import end_all_sessions, opened

Left = Callable[[], set[threading.Thread]]

SETTINGS = LinkSettings(service="tested")
MESSAGE = Message(exchange="amq.fanout", topic="t", id="1", type="t", body=b"{}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bus.db"


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with opened(file) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")


def refused(file: Path, match: str) -> None:
    """A bus cannot use the file, and says why."""
    bus = EventBus(f"sqlite:///{file}", service="tested")
    try:
        with pytest.raises(ConfigurationError, match=match):
            bus.start()
    finally:
        bus.stop()


@pytest.fixture
def left() -> Left:
    """The links' threads that a test has begun, and that run on."""
    before = set(threading.enumerate())
    return lambda: {one for one in set(threading.enumerate()) - before if one.name.startswith("eventbus-sqlite")}


def test_outcomes_come_on_the_loop_also_if_nothing_could_be_written(file: Path) -> None:
    heard: list[tuple[int, Any]] = []

    async def publish() -> None:
        link = SQLiteTransport(file).async_link(SETTINGS, lambda status: None)
        link.open()
        await link.wait_ready(10)
        ended = asyncio.Event()

        def done(outcome: Any) -> None:
            heard.append((threading.get_ident(), outcome))
            ended.set()

        with locked(file):
            link.publish(MESSAGE, deadline=time.monotonic() + 0.05, done=done)
            await asyncio.wait_for(ended.wait(), 10)
            link.publish(MESSAGE, deadline=time.monotonic() + 60, done=done)
            ended.clear()
            await link.close(0.3)
        assert ended.is_set()

    asyncio.run(publish())
    assert [thread for thread, _ in heard] == [threading.get_ident()] * 2
    assert [type(outcome).__name__ for _, outcome in heard] == ["NotSent", "BusClosed"]
    assert "locked by another program" in str(heard[0][1])


def test_a_lock_that_outlasts_the_lease_does_not_stay_in_the_health(file: Path) -> None:
    with EventBus(f"sqlite:///{file}?lease=0.5", service="tested") as bus:
        with locked(file):
            with pytest.raises(NotSent):
                bus.publish(Written(1), timeout=2.5)
            assert "locked by another program" in (bus.health().blocked or "")
        bus.publish(Written(2))
        assert eventually(lambda: bus.health().blocked is None)
        assert bus.health().reconnects == 1


def test_publishes_without_outcome_are_counted(file: Path) -> None:
    link = SQLiteTransport(file).sync_link(SETTINGS, lambda status: None)
    link.open()
    link.wait_ready(10)
    outcomes: list[Any] = []
    try:
        with locked(file):
            for _ in range(3):
                link.publish(MESSAGE, deadline=time.monotonic() + 30, done=outcomes.append)
            assert link.status().unconfirmed == 3
        eventually(lambda: len(outcomes) == 3)
        assert link.status().unconfirmed == 0
    finally:
        link.close(5)


@pytest.mark.parametrize("why", ["the folder is missing", "the file is locked"])
def test_what_never_opened_closes_at_once(tmp_path: Path, why: str, left: Left) -> None:
    file = tmp_path / ("missing/bus.db" if why == "the folder is missing" else "bus.db")
    outcomes: list[Any] = []

    def close() -> float:
        link = SQLiteTransport(file).sync_link(SETTINGS, lambda status: None)
        link.open()
        eventually(lambda: link.status().phase in (Phase.FAILED, Phase.WAITING))
        link.publish(MESSAGE, deadline=time.monotonic() + 60, done=outcomes.append)
        began = time.monotonic()
        link.close(30)
        return time.monotonic() - began

    if file.parent.exists():
        make_file(file)
        with locked(file):
            assert close() < 15
    else:
        assert close() < 15
    assert isinstance(outcomes[0], NotSent)
    assert not left()


def test_what_a_loop_held_that_was_closed_goes_back(file: Path, left: Left) -> None:
    make_file(file, 1, 2, 3)

    async def take() -> None:
        bus = AsyncEventBus(f"sqlite:///{file}", service="mail")
        begun = asyncio.Event()

        @bus.subscribe(Written)
        async def handle(written: Written) -> None:
            begun.set()
            await asyncio.Event().wait()

        await bus.start()
        await asyncio.wait_for(begun.wait(), 10)

    asyncio.run(take())
    eventually(lambda: not left(), timeout=20, what="the end of its thread")
    with office(file) as mail:
        mail.go_on.set()
        mail.wait_handled(1, 2, 3)


def test_closing_does_not_wait_for_threads_that_handlers_have(file: Path, left: Left) -> None:
    go_on = threading.Event()

    async def close() -> float:
        loop = asyncio.get_running_loop()
        link = SQLiteTransport(file).async_link(SETTINGS, lambda status: None)
        link.open()
        await link.wait_ready(10)
        # More than the executor has threads.
        waiting = [loop.run_in_executor(None, go_on.wait, 20) for _ in range(40)]
        began = time.monotonic()
        await link.close(5)
        took = time.monotonic() - began
        go_on.set()
        await asyncio.gather(*waiting)
        return took

    assert asyncio.run(close()) < 5
    assert not left()


def test_a_refusal_is_forgotten_when_what_was_in_the_way_is_gone(file: Path) -> None:
    make_file(file)
    statuses: list[LinkStatus] = []
    link = SQLiteTransport(file).sync_link(SETTINGS, statuses.append)
    link.declare(Topology(exchanges=(Exchange(name="eventbus.events", kind="fanout"),)))
    link.open()
    try:
        with pytest.raises(Exception, match=r"eventbus\.events"):
            link.wait_ready(10)
        with opened(file) as connection:
            connection.executescript(
                "BEGIN IMMEDIATE; DELETE FROM bindings; DELETE FROM exchanges;"
                "UPDATE state SET topology = topology + 1; COMMIT"
            )
        end_all_sessions(file)
        eventually(lambda: link.status().reconnects == 1 and link.status().error is None)
        link.wait_ready(10)
    finally:
        link.close(5)


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (tmp_path / "bus.db").symlink_to(folder / "bus.db")
    refused(tmp_path / "bus.db", f"no folder {folder}")
    folder.mkdir()
    with EventBus(f"sqlite:///{tmp_path}/bus.db", service="tested"):
        assert sorted(path.name for path in folder.iterdir()) == ["bus.db", "bus.db-shm", "bus.db-wal"]
        assert (folder / "bus.db").stat().st_mode & 0o777 == 0o600
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith("bus.db")] == ["bus.db"]


def test_errors_name_the_file(file: Path) -> None:
    with opened(file) as connection:
        connection.execute("CREATE TABLE invoices (id)")
    refused(file, f"^{file}: the file is the database of another program")
    file.unlink()
    make_file(file)
    with opened(file) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
    with open(file, "r+b") as pages:
        pages.seek((page - 1) * 4096)
        pages.write(b"\xff" * 100)
    refused(file, f"^{file}.* damaged .*eventbus sqlite check.*--save")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_does_not_write_over_its_parents_link(file: Path) -> None:
    link = SQLiteTransport(file).sync_link(SETTINGS, lambda status: None)
    link.open()
    link.wait_ready(10)
    try:
        child = os.fork()
        if not child:
            outcomes: list[Any] = []
            link.publish_now(MESSAGE, deadline=time.monotonic() + 10, done=outcomes.append)
            link.close(1)
            os._exit(0 if [type(outcome) for outcome in outcomes] == [BusClosed] else 1)
        assert os.waitpid(child, 0)[1] == 0
        outcomes = []
        link.publish_now(MESSAGE, deadline=time.monotonic() + 10, done=outcomes.append)
        assert [type(outcome) for outcome in outcomes] == [Unroutable], "the parent's link goes on"
    finally:
        link.close(5)


def test_links_leave_nothing_behind(file: Path, left: Left) -> None:
    def used(url: str, *, stopped: bool) -> None:
        async def use() -> None:
            bus = AsyncEventBus(url, service="tested")
            bus.subscribe(Written)(lambda written: None)
            try:
                await bus.start()
            except ConfigurationError:
                pass
            if stopped:  # or its loop is only closed
                await bus.stop(1)

        asyncio.run(use())
        bus = EventBus(url, service="tested")
        try:
            bus.start()
        except ConfigurationError:
            pass
        bus.stop(1)

    urls = (f"sqlite:///{file}", f"sqlite:///{file.parent}/missing/bus.db")
    used(urls[0], stopped=True)
    before = len(os.listdir("/proc/self/fd"))
    for stopped in (True, False):
        for url in urls * 2:
            used(url, stopped=stopped)
    eventually(lambda: not left(), timeout=20, what="the end of all threads")
    assert len(os.listdir("/proc/self/fd")) <= before
