"""The power is cut at every moment of a run: what was confirmed is in the file that is left, and the file is sound."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eventbus_sqlite._store import Store

from eventbus import AsyncEventBus, EventBus, PublishUnknown, event
from eventbus.testing import eventually
from tests.faults.files import FAULTY
from tests.sqlite.files import opened
from tests.sqlite.power import Disk, Event, Mark, Recorder, Sync, with_small_log


@event("power.step")
@dataclass(frozen=True)
class Step:
    id: str
    pad: str = ""


def record(folder: Path, run: Callable[[str, Recorder], None], synchronous: str) -> list[Event]:
    """All that a run has written, from an empty folder on."""
    folder.mkdir()
    recorder = Recorder(folder)
    with recorder.recording(), with_small_log(40):
        run(f"sqlite:///{folder}/bus.db?synchronous={synchronous}", recorder)
    return recorder.events


def declare(url: str) -> None:
    """A durable queue for all steps, with nobody at it."""
    with EventBus(url, service="keeper") as bus:
        bus.subscribe(Step)(lambda step: None)
        bus.start(timeout=20)


def one_by_one(bus: EventBus, recorder: Recorder, numbers: Iterable[object]) -> None:
    for number in numbers:
        bus.publish(Step(id=str(number), pad="x" * 300))
        recorder.note("confirmed", str(number))


def everything(url: str, recorder: Recorder) -> None:
    """Threads and tasks that publish, one by one and in bursts, and a consumer that handles what it gets."""
    declare(url)
    with EventBus(url, service="threads") as bus:
        threads = [
            threading.Thread(target=one_by_one, args=(bus, recorder, [f"{name}{n}" for n in range(8)])) for name in "ab"
        ]
        for thread in threads:
            thread.start()
        receipts = [(f"c{n}", bus.submit(Step(id=f"c{n}"))) for n in range(60)]
        for name, receipt in receipts:
            receipt.wait()
            recorder.note("confirmed", name)
        for thread in threads:
            thread.join()
    asyncio.run(tasks(url, recorder))


async def tasks(url: str, recorder: Recorder) -> None:
    async with AsyncEventBus(url, service="keeper") as consumer, AsyncEventBus(url, service="tasks") as bus:

        async def handle(step: Step) -> None:
            recorder.note("handled", step.id)

        consumer.subscribe(Step, prefetch=10)(handle)
        await consumer.start(timeout=20)

        async def publish(name: str) -> None:
            await bus.publish(Step(id=name))
            recorder.note("confirmed", name)

        for burst in "de":
            await asyncio.gather(*(publish(f"{burst}{n}") for n in range(20)))
        await wait_until(lambda: sum(isinstance(one, Mark) and one.kind == "handled" for one in recorder.events) >= 116)


async def wait_until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.01)


class Cutting:
    """Cuts the power at every moment of a record, and looks at what is left."""

    def __init__(self, folder: Path, events: list[Event], seed: int) -> None:
        self.folder = folder
        folder.mkdir()
        self.events = events
        self.random = random.Random(seed)
        self.numbers = itertools.count()

    def cuts(self, kept: float) -> Iterator[tuple[set[str], list[str]]]:
        """For each cut: what was confirmed and not handled, and what is in the file, in the order of publishing."""
        disk, confirmed, handled = Disk(), set[str](), set[str]()
        for index, happened in enumerate(self.events):
            disk.take(index, happened)
            if isinstance(happened, Mark):
                (confirmed if happened.kind == "confirmed" else handled).add(happened.id)
            # What is synced, and what was confirmed, changes with these alone.
            if kept > 0 or isinstance(happened, Sync | Mark):
                yield confirmed - handled, self._left(disk, kept)

    def _left(self, disk: Disk, kept: float) -> list[str]:
        path = self.folder / f"{next(self.numbers)}.db"
        for name, data in disk.after_cut(kept, self.random).items():
            if not name.endswith("-shm"):
                (self.folder / name.replace("bus.db", path.name)).write_bytes(data)
        if not path.exists() or not path.stat().st_size:
            return []
        with opened(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                return []
            for what, query in FAULTY.items():
                assert not connection.execute(query).fetchall(), what
            bodies = connection.execute("SELECT body FROM messages ORDER BY id").fetchall()
        for file in self.folder.glob(f"{path.name}*"):
            file.unlink()
        return [body.split(b'"')[3].decode() for (body,) in bodies]


KEPT = [pytest.param(0.0, id="only what was synced"), pytest.param(0.5, id="half"), pytest.param(1.0, id="all")]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    return record(tmp_path_factory.mktemp("full") / "bus", everything, "FULL")


@pytest.mark.parametrize("kept", KEPT)
def test_what_was_confirmed_outlives_every_cut_of_the_power(kept: float, full: list[Event], tmp_path: Path) -> None:
    seed, cuts = random.randrange(1_000_000), 0
    for confirmed, left in Cutting(tmp_path / "cuts", full, seed).cuts(kept):
        cuts += 1
        assert not confirmed - set(left), f"seed {seed}"
    assert cuts >= 100
    assert any(isinstance(one, Sync) and one.name == "bus.db" for one in full), "the log was never moved into the file"


def steadily(url: str, recorder: Recorder) -> None:
    declare(url)
    with EventBus(url, service="threads") as bus:
        one_by_one(bus, recorder, range(60))


def suffixes(folder: Path, events: list[Event], kept: float) -> int:
    """The most confirmed messages that a cut has lost; they must be the newest ones."""
    most = 0
    for confirmed, left in Cutting(folder, events, 1).cuts(kept):
        assert left == [str(n) for n in range(len(left))], "something is missing before what is there"
        most = max(most, len(confirmed) - len(left))
    return most


def test_with_normal_the_death_of_processes_loses_nothing_and_a_cut_only_the_newest(tmp_path: Path) -> None:
    events = record(tmp_path / "bus", steadily, "NORMAL")
    assert suffixes(tmp_path / "dead", events, 1.0) <= 0
    lost = suffixes(tmp_path / "cut", events, 0.0)
    assert lost > 0, "NORMAL syncs as FULL does: say so in the documentation"
    suffixes(tmp_path / "half", events, 0.5)


def test_a_variant_that_does_not_sync_its_commits_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store.start
    monkeypatch.setattr(Store, "start", lambda self, session, *, durable: real(self, session, durable=False))
    events = record(tmp_path / "bus", steadily, "FULL")
    assert suffixes(tmp_path / "cut", events, 0.0) > 0


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_sync_that_fails_leaves_the_outcome_open_and_the_bus_goes_on(pipelined: bool, tmp_path: Path) -> None:
    recorder, path = Recorder(tmp_path), tmp_path / "bus.db"
    handled: list[str] = []
    with recorder.recording(), EventBus(f"sqlite:///{path}", service="keeper") as bus:
        bus.subscribe(Step)(lambda step: handled.append(step.id))
        bus.start(timeout=20)
        recorder.sync_fails = True
        for id in ("1", "2"):
            with pytest.raises(PublishUnknown, match=f"disk failed while {path}"):
                bus.submit(Step(id=id)).wait() if pipelined else bus.publish(Step(id=id))
        recorder.sync_fails = False
        bus.publish(Step(id="3"))
        eventually(lambda: "3" in handled, 20, what="the bus to go on")
    assert set(handled) <= {"1", "2", "3"}
    with opened(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for what, query in FAULTY.items():
            assert not connection.execute(query).fetchall(), what
