"""The way out under load: publishers and consumers on both sides, and movers that are killed at any moment."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventbus import Delivery, Receipt
from eventbus.testing import eventually
from eventbus.testing._facade import SyncRunner
from tests.moving.conftest import Ends, Sent, Side
from tests.moving.oracle import judge

BACKLOG, KILLS = 4000, 6


class Publisher:
    """Publishes until it is stopped, and notes what was confirmed."""

    def __init__(self, side: Side, country: str, most: int = 20_000) -> None:
        self._bus = side.bus()
        self._country = country
        self._most = most
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.confirmed: list[str] = []

    def _run(self) -> None:
        for start in itertools.count(step=20):
            if self._stopping.wait(0.005) or start >= self._most:
                return
            receipts: list[Receipt] = [self._bus.submit(Sent(start + number, self._country)) for number in range(20)]
            for receipt in receipts:
                receipt.wait()
                self.confirmed.append(receipt.message.id)

    def __enter__(self) -> Publisher:
        self._bus.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        self._bus.stop(10)


@contextlib.contextmanager
def served(side: Side, pause: float) -> Iterator[None]:
    """The group's service runs on this side; each message takes it so long."""

    def handle(sent: Sent, delivery: Delivery) -> None:
        time.sleep(pause)

    bus = side.service(handle, prefetch=10)
    bus.start()
    try:
        yield
    finally:
        bus.stop(10)


def mover(ends: Ends, *words: str) -> subprocess.Popen[bytes]:
    sides = (str(ends.source.target), str(ends.destination.target))
    command = [sys.executable, "-m", "eventbus", "move", *sides, "--queue", ends.source.queue, *words]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def killed(ends: Ends, moment: float) -> None:
    """A mover that is killed so long after its first message has come to the destination."""
    before = len(ends.destination.got)
    process = mover(ends, "--follow")

    def works() -> bool:
        return any(delivery.topic == "parcels.sent.old" for delivery in ends.destination.got[before:])

    try:
        eventually(lambda: works() or process.poll() is not None, 60)
        time.sleep(moment)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(("source", "destination"), [("sqlite", "rabbit"), ("rabbit", "sqlite"), ("rabbit", "rabbit")])
def test_every_confirmed_message_is_handled_and_none_twice_without_a_mark(
    source: str, destination: str, rabbits: tuple[str, str], tmp_path: Path
) -> None:
    kinds = {"sqlite": f"sqlite:///{tmp_path}/bus.db?lease=2"}
    ends = Ends(SyncRunner(), kinds.get(source, rabbits[0]), kinds.get(destination, rabbits[1]))
    ends.prepare()
    luck = random.Random()
    backlog = ends.source.publish(range(BACKLOG), country="old")
    with served(ends.destination, 0.0):
        with (
            Publisher(ends.source, "old") as old,
            Publisher(ends.destination, "new", 1000) as new,
            served(ends.source, 0.02),
        ):
            for _ in range(KILLS):
                killed(ends, luck.uniform(0.0, 0.1))
        confirmed = [*backlog, *old.confirmed, *new.confirmed]
        known = set(confirmed)

        def handled() -> bool:
            return known <= {delivery.id for delivery in (*ends.source.got, *ends.destination.got)}

        # What killed movers held comes back to the source; so the last one follows until all is there.
        last = mover(ends, "--follow")
        eventually(handled, 60, what="every confirmed message handled")
        last.send_signal(signal.SIGINT)
        assert last.wait(30) == 0
    assert ends.source.waiting() == 0
    assert min(len(ends.source.got), len(old.confirmed), len(new.confirmed)) > 0
    judge(confirmed, [*ends.source.got, *ends.destination.got])
    ends.close()


def stop_between_transactions(process: subprocess.Popen[bytes], file: Path) -> None:
    """Freeze the process. Frozen within a transaction it would keep the file locked for everybody, lease or not."""

    def stopped() -> bool:
        process.send_signal(signal.SIGSTOP)
        with contextlib.closing(sqlite3.connect(file, timeout=0.5, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                return False
        return True

    eventually(stopped, 30)


def test_a_mover_that_slept_past_its_lease_takes_nothing_from_those_who_got_its_messages(
    rabbits: tuple[str, str], tmp_path: Path
) -> None:
    ends = Ends(SyncRunner(), f"sqlite:///{tmp_path}/bus.db?lease=1", rabbits[1])
    ends.prepare()
    ids = ends.source.publish(range(BACKLOG), country="old")
    process = mover(ends, "--follow", "--rate", "1000")
    with served(ends.destination, 0.0):
        eventually(lambda: len(ends.destination.got) > 20, 60)
        stop_between_transactions(process, tmp_path / "bus.db")
        with served(ends.source, 0.0):
            eventually(lambda: any(delivery.redelivered for delivery in ends.source.got), 60)
        process.send_signal(signal.SIGCONT)
        known = set(ids)
        eventually(lambda: known <= {d.id for d in (*ends.source.got, *ends.destination.got)}, 60)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    judge(ids, [*ends.source.got, *ends.destination.got])
    ends.close()
