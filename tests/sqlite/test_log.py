"""The write-ahead log: it stays short, and when another program's reading keeps it long, somebody is told."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from eventbus_sqlite import _upkeep

from eventbus import EventBus
from eventbus.testing import eventually
from tests.sqlite.files import opened

MIB = 2**20


def publish(bus: EventBus, mebibytes: int) -> None:
    """So much, in messages that a transaction takes some of."""
    for receipt in [bus.submit({"pad": "x" * 100_000}, topic="log.step", type="t") for _ in range(10 * mebibytes)]:
        receipt.wait()


def size_of(path: Path) -> int:
    return os.stat(f"{path}-wal").st_size


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upkeep at a hundredth of the size, and without much patience."""
    monkeypatch.setattr(_upkeep, "LONG", 2 * MIB)
    monkeypatch.setattr(_upkeep, "_PATIENCE", 2)


@pytest.mark.usefixtures("quickly")
def test_a_reader_that_does_not_end_is_told_of_and_the_log_shrinks_when_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "eventbus.sqlite")
    path = tmp_path / "bus.db"

    def told(text: str) -> Callable[[], bool]:
        return lambda: any(text in record.getMessage() for record in caplog.records)

    with EventBus(f"sqlite:///{path}", service="shop") as bus:
        bus.subscribe(pattern="log.#")(lambda event: None)
        bus.start(timeout=20)
        with opened(path) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM messages").fetchall()
            publish(bus, 12)
            assert size_of(path) >= 10 * MIB, "the reader holds nothing back"
            eventually(told("some program has been reading the file for long"), 20, what="a warning")
            reader.execute("ROLLBACK")
        eventually(told("is short again"), 20, what="the end of it")
        assert size_of(path) == 0
    assert len([record for record in caplog.records if "has been reading" in record.getMessage()]) == 1


@pytest.mark.usefixtures("quickly")
def test_without_such_a_reader_the_log_stays_short(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "bus.db"
    with EventBus(f"sqlite:///{path}", service="shop") as bus:
        bus.subscribe(pattern="log.#")(lambda event: None)
        bus.start(timeout=20)
        longest = 0
        for _ in range(15):
            publish(bus, 2)
            longest = max(longest, size_of(path))
        assert longest <= 16 * MIB
        eventually(lambda: size_of(path) <= 2 * MIB, 20, what="a short log")
    assert not [record for record in caplog.records if "reading" in record.getMessage()]
