"""Partitions over processes: workers die, join and leave; each key stays in order, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import EventBus, Unroutable
from eventbus.testing import eventually
from tests.rabbitmq.partition_worker import Step

ROOT = Path(__file__).parents[2]
KEYS = 24


class Load:
    """Publishes rounds of one message for each key, until it is stopped, and starts and ends workers."""

    def __init__(self, url: str, folder: Path, kind: str, queue_type: str) -> None:
        self.url = f"{url}?queue_type={queue_type}"
        self.kind = kind
        self.journal = folder / "journal"
        self.journal.touch()
        self.rounds = 0
        self.workers: list[subprocess.Popen[str]] = []
        self._bus = EventBus(self.url, service="publisher")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish)

    def worker(self) -> int:
        """One worker more; its process id."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.rabbitmq.partition_worker", self.kind, self.url, self.journal],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.workers.append(process)
        return process.pid

    def begin(self) -> None:
        eventually(self._listened_to, 30)
        self._thread.start()

    def _listened_to(self) -> bool:
        try:
            self._bus.publish(Step("probe", 0), mandatory=True)
        except Unroutable:
            return False
        return True

    def _publish(self) -> None:
        while not self._stop.is_set():
            self._bus.publish_many([Step(str(key), self.rounds) for key in range(KEYS)], mandatory=True)
            self.rounds += 1
            self._stop.wait(0.02)

    def end(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(20)

    def close(self) -> None:
        self.end()
        self._bus.stop(2)
        for process in self.workers:
            if process.poll() is None:
                process.kill()
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()

    def lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.journal.read_text().splitlines() if line.endswith("}")]
        return [line for line in lines if line["key"] != "probe"]

    def queues_of(self, pid: int, last: int = 400) -> set[str]:
        """The partitions that a worker has lately had messages of."""
        return {line["queue"] for line in self.lines()[-last:] if line["pid"] == pid}

    def check(self) -> None:
        """Nothing lost; first deliveries of a key in order; no two handlers of a key at once."""
        wanted = {(str(key), number) for key in range(KEYS) for number in range(self.rounds)}
        eventually(lambda: {(x["key"], x["number"]) for x in self.lines() if x["what"] == "end"} == wanted, 60)
        order: dict[str, list[int]] = defaultdict(list)
        busy: dict[str, tuple[int, int]] = {}
        dead = {process.pid for process in self.workers if process.poll() == -signal.SIGKILL}
        for line in sorted(self.lines(), key=lambda line: line["at"]):
            key, number, who = line["key"], line["number"], (line["pid"], line["number"])
            if line["what"] == "end":
                assert busy.pop(key) == who
                continue
            assert key not in busy or busy[key][0] in dead, f"two handlers of key {key} at once"
            busy[key] = who
            if number not in order[key]:
                order[key].append(number)
        assert order == {str(key): list(range(self.rounds)) for key in range(KEYS)}


@pytest.fixture(params=["sync-quorum", "async-quorum", "sync-classic", "async-classic"])
def load(request: pytest.FixtureRequest, broker: LocalBroker, tmp_path: Path) -> Iterator[Load]:
    kind, queue_type = request.param.split("-")
    vhost = f"partitions-{os.getpid()}-{request.param}"
    broker.ctl("add_vhost", vhost)
    broker.ctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
    load = Load(f"{broker.url}{vhost}", tmp_path, kind, queue_type)
    try:
        yield load
    finally:
        load.close()
        broker.ctl("delete_vhost", vhost)


def all_six(load: Load, *pids: int) -> bool:
    """Whether these workers, and each of them, have all partitions between them."""
    held = [load.queues_of(pid) for pid in pids]
    return all(held) and len(set().union(*held)) == 6


def test_a_killed_worker_s_keys_go_on_in_order_and_a_joining_worker_gets_its_share(load: Load) -> None:
    first = load.worker()
    load.begin()
    eventually(lambda: all_six(load, first), 30)
    second = load.worker()
    eventually(lambda: all_six(load, first, second), 30)
    eventually(lambda: len(load.queues_of(second)) == 3, 30)
    load.workers[0].kill()
    load.workers[0].wait(10)
    eventually(lambda: all_six(load, second), 30)
    third = load.worker()
    eventually(lambda: len(load.queues_of(third)) == 3 and len(load.queues_of(second)) == 3, 30)
    load.workers[1].send_signal(signal.SIGTERM)
    assert load.workers[1].communicate(timeout=20)[0].strip() == "True"
    eventually(lambda: all_six(load, third), 30)
    load.end()
    load.check()
