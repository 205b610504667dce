"""Damaged files: said by name, with what to do, when they are opened and while they are in use."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from eventbus_sqlite import FileDamaged

from eventbus import AsyncEventBus, EventBus, NotSent, event
from eventbus.testing import eventually
from tests.faults.files import FAULTY
from tests.sqlite.asking import ask
from tests.sqlite.files import opened


@event("damage.step")
@dataclass(frozen=True)
class Step:
    id: int
    pad: str = ""


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The file, and its write-ahead log, as processes leave them that are killed: with 110 messages."""
    path = tmp_path / "bus.db"
    with EventBus(f"sqlite:///{path}", service="group") as bus:
        bus.subscribe(Step)(lambda step: None)
        bus.start(timeout=20)
    folder = tmp_path / "left"
    folder.mkdir()
    with EventBus(f"sqlite:///{path}", service="shop") as bus:
        for receipt in [bus.submit(Step(id=n, pad="x" * 400)) for n in range(100)]:
            receipt.wait()
        with opened(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        for number in range(100, 110):
            bus.publish(Step(id=number))
        for name in ("bus.db", "bus.db-wal"):
            shutil.copy(tmp_path / name, folder / name)
    return folder / "bus.db"


def garble(path: Path, begin: int, end: int) -> None:
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(random.Random(1).randbytes(end - begin))


def a_page(path: Path) -> None:
    garble(path, 4 * 4096, 5 * 4096)


def many_pages(path: Path) -> None:
    garble(path, 4096, path.stat().st_size)


def the_header(path: Path) -> None:
    garble(path, 0, 100)


def the_end(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("damage", [a_page, many_pages, the_header, the_end])
def test_a_damaged_file_is_refused_by_name(damage: Callable[[Path], None], kind: str, left: Path) -> None:
    left.with_name("bus.db-wal").unlink()  # it would heal some of it
    damage(left)
    name, said = ask(kind, f"sqlite:///{left}")
    assert (name, str(left) in said) == ("FileDamaged", True), f"{name}: {said}"
    assert "restore a copy" in said


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda log: garble(log, log.stat().st_size - 6000, log.stat().st_size), id="its end garbled"),
        pytest.param(lambda log: garble(log, 0, 32), id="its header garbled"),
        pytest.param(lambda log: garble(log, 20_000, 24_000), id="its middle garbled"),
        pytest.param(lambda log: log.write_bytes(log.read_bytes()[: log.stat().st_size // 2]), id="truncated"),
        pytest.param(lambda log: log.write_bytes(b""), id="empty"),
        pytest.param(lambda log: log.unlink(), id="gone"),
    ],
)
def test_a_damaged_log_costs_what_was_behind_the_damage_and_nothing_else(
    damage: Callable[[Path], None], left: Path
) -> None:
    """SQLite cannot tell it from a write that a loss of power has cut off, and takes what is whole."""
    damage(left.with_name("bus.db-wal"))
    handled: list[int] = []
    with EventBus(f"sqlite:///{left}", service="group") as bus:
        bus.subscribe(Step)(lambda step: handled.append(step.id))
        bus.start(timeout=20)
        bus.publish(Step(id=1000))
        eventually(lambda: 1000 in handled, what="the newest message")
    assert handled[:-1] == list(range(len(handled) - 1))
    assert len(handled) > 100
    with opened(left) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for what, query in FAULTY.items():
            assert not connection.execute(query).fetchall(), what


def test_damage_that_comes_while_the_file_is_in_use_is_said(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    with EventBus(f"sqlite:///{path}", service="group", timeout=10) as bus:
        bus.subscribe(Step, name="kept")(lambda step: None)
        bus.start(timeout=20)
        bus.publish(Step(id=1))
        with opened(path) as connection:
            eventually(lambda: connection.execute("SELECT count(*) FROM messages").fetchone() == (0,))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute("UPDATE state SET topology = topology")  # so that it has the page in memory
            garble(path, 4096, path.stat().st_size)
            connection.execute("UPDATE state SET topology = topology + 1")  # so that the bus reads pages again
        with pytest.raises(NotSent, match=f"{path} is damaged"):
            bus.publish(Step(id=2))
        health = bus.health()
        assert health.status == "failed"
        assert str(path) in str(health.error)
        with pytest.raises(NotSent, match="damaged"):
            bus.publish(Step(id=3))


@pytest.mark.asyncio
async def test_damage_that_nobody_asks_for_is_found_by_looking_around(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    async with AsyncEventBus(f"sqlite:///{path}", service="group") as bus:

        async def handle(step: Step) -> None:
            """Nothing comes."""

        bus.subscribe(Step)(handle)
        await bus.start(timeout=20)
        running = asyncio.create_task(bus.run())
        with opened(path) as connection:
            connection.execute("UPDATE state SET topology = topology + 1")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        garble(path, 4096, path.stat().st_size)
        with pytest.raises(FileDamaged, match=f"{path} is damaged"):
            async with asyncio.timeout(20):
                await running


def test_a_message_that_cannot_be_read_is_dead_lettered_and_does_not_stop_the_others(left: Path) -> None:
    """A bit that has changed inside of a row: SQLite has no checksums, so nobody notices before the row is read."""
    with opened(left) as connection:
        connection.execute("UPDATE messages SET attributes = x'c1' WHERE id = (SELECT min(id) + 3 FROM messages)")
        connection.execute("UPDATE messages SET body = x'00ff' WHERE id = (SELECT min(id) + 5 FROM messages)")
    handled: list[int] = []
    with EventBus(f"sqlite:///{left}", service="group") as bus:
        bus.subscribe(Step)(lambda step: handled.append(step.id))
        bus.start(timeout=20)
        eventually(lambda: len(handled) >= 108, what="all but the two", timeout=20)
        eventually(lambda: dead(left) == 2, what="two dead letters")
        assert bus.health().status == "ready"
    assert sorted(handled) == [n for n in range(110) if n not in (3, 5)]


def dead(path: Path) -> int:
    with opened(path) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM ready JOIN queues ON queues.id = queue WHERE name LIKE '%.dead'"
        ).fetchone()
    return int(count)
