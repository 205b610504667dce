"""Another program has the file locked before a bus has opened it: publishes wait, and say so at their deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventbus import AsyncEventBus, EventBus, NotSent
from eventbus.testing import eventually
from tests.sqlite.asking import ask
from tests.sqlite.files import opened

EVENT = {"n": 1}
TOPIC = "locks.step"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    assert ask("sync", f"sqlite:///{tmp_path}/bus.db") == ("", "")
    return tmp_path / "bus.db"


@pytest.fixture(params=["for writing", "for itself alone"])
def locked(request: pytest.FixtureRequest, file: Path) -> Iterator[Path]:
    """The file, locked until the test ends."""
    with opened(file) as connection:
        if request.param == "for itself alone":
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("UPDATE state SET topology = topology")
        yield file
        connection.execute("ROLLBACK")


def test_a_publish_ends_at_its_deadline_and_names_the_lock(locked: Path) -> None:
    bus = EventBus(f"sqlite:///{locked}", service="waiting", timeout=1.5)
    try:
        began = time.monotonic()
        with pytest.raises(NotSent, match=f"{locked} is locked by another program"):
            bus.publish(EVENT, topic=TOPIC, type=TOPIC)
        assert 1.4 <= time.monotonic() - began < 10
        eventually(lambda: "locked" in str(bus.health().error), 20, what="the health to say so")
    finally:
        bus.stop()


@pytest.mark.asyncio
async def test_a_publish_of_a_task_ends_at_its_deadline_and_names_the_lock(locked: Path) -> None:
    bus = AsyncEventBus(f"sqlite:///{locked}", service="waiting", timeout=1.5)
    try:
        outcomes = await asyncio.gather(
            *(bus.publish(EVENT, topic=TOPIC, type=TOPIC) for _ in range(20)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {NotSent}
        assert all(f"{locked} is locked by another program" in str(outcome) for outcome in outcomes)
    finally:
        await bus.stop()


def test_a_bus_that_has_waited_for_the_lock_starts_when_it_goes(file: Path) -> None:
    bus = EventBus(f"sqlite:///{file}", service="asking", timeout=20)
    try:
        with opened(file) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            bus.start(wait=False)
            eventually(lambda: "locked" in str(bus.health().error), 20, what="the health to say so")
        bus.publish(EVENT, topic=TOPIC, type=TOPIC)
        assert bus.health().status == "ready"
    finally:
        bus.stop()
