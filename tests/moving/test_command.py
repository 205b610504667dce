"""``eventbus move`` as a process, over a real RabbitMQ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventbus.testing import eventually
from eventbus.testing._facade import SyncRunner
from eventbus.transport import Message
from tests.moving.conftest import Ends
from tests.moving.oracle import judge

APP = """
import os
from dataclasses import dataclass
from eventbus import EventBus, event

@event("parcels.sent", topic="parcels.sent.{country}")
@dataclass(frozen=True)
class Sent:
    number: int
    country: str = "se"

bus = EventBus("memory://", service=os.environ["GROUP"])
bus.subscribe(Sent)(lambda sent: None)
"""


@pytest.fixture
def ends(rabbits: tuple[str, str]) -> Iterator[Ends]:
    ends = Ends(SyncRunner(), *rabbits)
    yield ends
    ends.close()


class Command:
    """Runs ``eventbus move`` beside a program with the group's bus."""

    def __init__(self, folder: Path, group: str) -> None:
        (folder / "app.py").write_text(APP)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS_")}
        self._options: dict[str, Any] = {
            "cwd": folder,
            "env": {**clean, "GROUP": group, "COLUMNS": "200"},
            "text": True,
        }
        self._words = [sys.executable, "-m", "eventbus", "move"]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._words, *words], capture_output=True, timeout=60, **self._options)

    def start(self, *words: str) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*self._words, *words], **pipes, **self._options)


@pytest.fixture
def command(tmp_path: Path, ends: Ends) -> Command:
    return Command(tmp_path, ends.group)


def test_a_move_is_counted_first_and_then_made(command: Command, ends: Ends, rabbits: tuple[str, str]) -> None:
    ends.prepare()
    ids = ends.source.publish(range(100))
    dry = command(*rabbits, "--queue", ends.source.queue, "--dry-run")
    assert (dry.returncode, "100 to be moved" in dry.stdout) == (0, True)
    ran = command(*rabbits, "--queue", ends.source.queue)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ends.source.queue in ran.stdout
    assert ran.stdout.endswith("100 moved\n")
    assert judge(ids, ends.destination.serve(100)) == 0


def test_the_report_is_json_and_a_url_may_be_in_a_file(
    command: Command, ends: Ends, rabbits: tuple[str, str], tmp_path: Path
) -> None:
    ends.source.prepare()
    ends.source.publish(range(5))
    (tmp_path / "to").write_text(rabbits[1] + "\n")
    ran = command(rabbits[0], "@to", "--app", "app:bus", "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert (report["moved"], report["marked"], report["left"], report["interrupted"]) == (5, 0, 0, False)
    assert report["queues"] == [{"name": ends.source.queue, "moved": 5, "marked": 0, "left": 0}]
    assert ends.destination.waiting() == 5


def test_what_stays_is_told_and_makes_the_exit_code_1(command: Command, ends: Ends, rabbits: tuple[str, str]) -> None:
    ends.source.prepare()
    ends.destination.prepare()
    # More headers than a message may have: no client reads it, so it cannot be copied.
    headers = {f"name-{number}": number for number in range(2000)}
    queue = ends.source.queue
    ends.source.raw(Message(exchange="", topic=queue, body=b"{}", id="x", type="t", headers=headers))
    ran = command(*rabbits, "--queue", queue)
    assert (ran.returncode, "0 moved" in ran.stdout) == (1, True)
    assert "cannot be moved" in ran.stderr
    eventually(lambda: ends.source.waiting() == 1, 20)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{source}"], 64, "Missing argument"),
        (["{source}", "@none"], 64, "cannot be read"),
        (["{source}", "{destination}", "--group", "x"], 78, "name them"),
        (["{source}", "{destination}", "--queue", "none"], 78, "the source has no queue 'none'"),
        (["{source}", "{source}", "--queue", "none"], 78, "the same"),
        (["{source}", "{destination}", "--queue", "{queue}"], 78, "the destination has no queue"),
        (["{source}", "amqp://me:hunter2@localhost:1/", "--queue", "{queue}", "--timeout", "1"], 69, "localhost:1"),
        (["{source}", "amqp://me:hunter2@localhost:{port}/", "--queue", "{queue}"], 77, "refused the login"),
        (["{source}", "ampq://me:hunter2@localhost/", "--queue", "{queue}"], 78, "no transport named 'ampq'"),
    ],
)  # fmt: skip
def test_mistakes_have_their_exit_codes_and_passwords_are_not_shown(
    command: Command, ends: Ends, rabbits: tuple[str, str], words: list[str], code: int, said: str
) -> None:
    ends.source.prepare()
    port = rabbits[0].rpartition(":")[2].partition("/")[0]
    known = {"source": rabbits[0], "destination": rabbits[1], "queue": ends.source.queue, "port": port}
    ran = command(*(word.format(**known) for word in words))
    assert (ran.returncode, said in ran.stderr) == (code, True), ran.stderr
    assert "hunter2" not in ran.stdout + ran.stderr


@pytest.mark.parametrize("signals", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("follow", [False, True])
def test_a_signal_ends_it_in_order(
    command: Command, ends: Ends, rabbits: tuple[str, str], signals: signal.Signals, follow: bool
) -> None:
    ends.prepare()
    ids = ends.source.publish(range(1000))
    words = ["--queue", ends.source.queue, "--rate", "200", "--json", *(["--follow"] if follow else [])]
    process = command.start(*rabbits, *words)
    eventually(lambda: ends.destination.waiting() >= 20, 30)
    process.send_signal(signals)
    told, errors = process.communicate(timeout=30)
    assert process.returncode == (0 if follow else 130), errors
    report = json.loads(told)
    assert report["interrupted"]
    assert 20 <= report["moved"] < 1000
    eventually(lambda: ends.source.waiting() == 1000 - report["moved"], 20)
    assert command(*rabbits, "--queue", ends.source.queue).returncode == 0
    assert judge(ids, ends.destination.serve(1000)) == 0
