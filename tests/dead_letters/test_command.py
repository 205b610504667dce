"""``eventbus dead-letters`` as a process, over a real RabbitMQ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pika
import pytest

from eventbus.dead_letters import DeadLetters
from eventbus.testing import eventually
from eventbus.testing._facade import SyncRunner
from tests.dead_letters.conftest import LocalBroker, SmtpError, Stage

APP = """
import os
from dataclasses import dataclass
from eventbus import EventBus, event

@event("letters.sent", topic="letters.sent.{country}")
@dataclass(frozen=True)
class Sent:
    number: int
    country: str = "se"

bus = EventBus(os.environ["EVENTBUS_URL"], service=os.environ["GROUP"])
bus.subscribe(Sent)(lambda sent: None)
"""


class Command:
    """Runs ``eventbus dead-letters`` beside a program with the group's bus."""

    def __init__(self, folder: Path, stage: Stage) -> None:
        (folder / "app.py").write_text(APP)
        assert stage.broker is not None
        clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS_")}
        self._options: dict[str, Any] = {
            "cwd": folder,
            "env": {**clean, "EVENTBUS_URL": stage.broker.url, "GROUP": stage.group, "COLUMNS": "200"},
            "text": True,
        }
        self._words = [sys.executable, "-m", "eventbus", "dead-letters"]

    def __call__(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._words, *words], input=text, capture_output=True, timeout=60, **self._options)

    def start(self, *words: str) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*self._words, *words], **pipes, **self._options)


@pytest.fixture
def rabbit_stage(broker: LocalBroker) -> Any:
    stage = Stage(SyncRunner(), broker.url, broker)
    yield stage
    stage.close()


@pytest.fixture
def command(tmp_path: Path, rabbit_stage: Stage) -> Command:
    return Command(tmp_path, rabbit_stage)


class Queue:
    """A queue, looked at by another client."""

    def __init__(self, stage: Stage, name: str) -> None:
        assert stage.broker is not None
        self._url, self._name = stage.broker.url, name

    def __len__(self) -> int:
        connection = pika.BlockingConnection(pika.URLParameters(self._url))
        count: int = connection.channel().queue_declare(self._name, passive=True).method.message_count
        connection.close()
        return count

    def taken(self) -> list[tuple[str, dict[str, Any]]]:
        """All messages, taken out: ids and headers."""
        connection = pika.BlockingConnection(pika.URLParameters(self._url))
        channel = connection.channel()
        found = []
        while True:
            method, properties, _ = channel.basic_get(self._name, auto_ack=True)
            if method is None:
                break
            found.append((properties.message_id, properties.headers))
        connection.close()
        return found


def test_list_shows_a_table_and_json(rabbit_stage: Stage, command: Command) -> None:
    rabbit_stage.fill(3, lambda number: SmtpError(f"mailbox {number} \x1b[31m[bold]full"))
    ran = command("list", "--app", "app:bus")
    assert ran.returncode == 0, ran.stderr
    assert "SmtpError: mailbox 2  [31m[bold]full" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert "3 of 3 dead letters" in ran.stderr
    found = json.loads(command("list", "--queue", rabbit_stage.queue(), "--json", "--limit", "2").stdout)
    assert (found["matched"], found["looked_at"], len(found["messages"])) == (3, 3, 2)
    newest = found["messages"][-1]
    assert (newest["queue"], newest["error_type"], newest["attempts"]) == (rabbit_stage.queue(), "SmtpError", 1)
    assert "body" not in newest


def test_list_groups_what_failed_alike(rabbit_stage: Stage, command: Command) -> None:
    rabbit_stage.fill(6, lambda number: SmtpError("full") if number % 3 else KeyError(number))
    ran = command("list", "--queue", rabbit_stage.queue(), "--groups")
    assert ran.returncode == 0, ran.stderr
    assert "6 dead letters in 2 groups" in ran.stderr
    groups = json.loads(command("list", "--queue", rabbit_stage.queue(), "--groups", "--json").stdout)["groups"]
    assert [(group["error_type"], group["count"]) for group in groups] == [("SmtpError", 4), ("KeyError", 2)]


def test_show_tells_everything_of_one_message(rabbit_stage: Stage, command: Command) -> None:
    rabbit_stage.fill(2)
    dead = DeadLetters(rabbit_stage.transport, queues=[rabbit_stage.queue()]).list().messages[0]
    ran = command("show", dead.id, "--queue", rabbit_stage.queue())
    assert ran.returncode == 0, ran.stderr
    for part in (dead.id, "letters.sent.se", "eventbus.events", "SmtpError: no ", dead.digest, "number: ", '"country"'):
        assert part in ran.stdout
    (shown,) = json.loads(command("show", dead.id, "--queue", rabbit_stage.queue(), "--json").stdout)
    assert shown["body"]["number"] == shown["headers"]["number"]
    assert command("show", "nobody", "--queue", rabbit_stage.queue()).returncode == 1


def test_bytes_that_are_no_text_are_shown_escaped_and_cut(rabbit_stage: Stage, command: Command) -> None:
    rabbit_stage.fill(0)
    body = b"\xff\x00\x1b[2Jtext\n" + b"x" * 5000
    rabbit_stage.foreign(body, rabbit_stage.queue() + ".dead", exchange="", id="bytes")
    ran = command("show", "bytes", "--queue", rabbit_stage.queue(), "--body", "40")
    assert ran.returncode == 0, ran.stderr
    assert "\\xff\\x00\\x1b[2Jtext\\nxxx" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert "x" * 100 not in ran.stdout
    (shown,) = json.loads(command("show", "bytes", "--queue", rabbit_stage.queue(), "--json").stdout)
    assert "body_base64" in shown


def test_replay_sends_to_the_failed_queue_and_says_so(rabbit_stage: Stage, command: Command) -> None:
    rabbit_stage.fill(4, lambda number: SmtpError("full") if number else KeyError(number))
    queue = Queue(rabbit_stage, rabbit_stage.queue())
    words = ("replay", "--app", "app:bus", "--error-type", "SmtpError")
    dry = command(*words, "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "3 of 3 would be replayed (4 looked at)\n")
    assert len(queue) == 0
    ran = command(*words, "--rate", "50", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["done"] == 3
    taken = queue.taken()
    assert len({id for id, _ in taken}) == 3
    assert {headers["eventbus-attempt"] for _, headers in taken} == {1}
    assert not [name for _, headers in taken for name in headers if name.startswith(("eventbus-dead", "x-death"))]


def test_discard_asks_first(rabbit_stage: Stage, command: Command) -> None:
    rabbit_stage.fill(3)
    dead = Queue(rabbit_stage, rabbit_stage.queue() + ".dead")
    words = ("discard", "--queue", rabbit_stage.queue())
    asked = command(*words, text="n\n")
    assert (asked.returncode, "Delete 3 dead letters" in asked.stderr) == (1, True)
    assert command(*words).returncode == 130  # nobody answers
    eventually(lambda: len(dead) == 3)
    assert command(*words, "--limit", "1", text="y\n").stdout == "1 of 1 discarded (1 looked at)\n"
    assert command(*words, "--yes").stdout == "2 of 2 discarded (2 looked at)\n"
    assert len(dead) == 0


def test_what_is_wrong_is_told(rabbit_stage: Stage, command: Command) -> None:
    missing = command("list", "--queue", "nobody")
    assert (missing.returncode, "queue 'nobody.dead' does not exist" in missing.stderr) == (78, True)
    unnamed = command("list")
    assert (unnamed.returncode, "--queue" in unnamed.stderr) == (64, True)
    assert command("list", "--queue", "x", "--since", "yesterday").returncode == 64
    not_yet = command("list", "--app", "app:bus")
    assert (not_yet.returncode, f"{rabbit_stage.queue()}.dead does not exist yet" in not_yet.stderr) == (0, True)
    unreachable = command("list", "--queue", "x", "--url", "amqp://127.0.0.1:9/", "--timeout", "0.5")
    assert unreachable.returncode == 69


def test_a_time_may_be_a_date_or_how_long_ago(rabbit_stage: Stage, command: Command) -> None:
    rabbit_stage.fill(2)
    words = ("list", "--queue", rabbit_stage.queue(), "--json")
    assert json.loads(command(*words, "--since", "1h").stdout)["matched"] == 2
    assert json.loads(command(*words, "--until", "1h").stdout)["matched"] == 0
    assert json.loads(command(*words, "--since", "2020-01-01", "--until", "2099-01-01T00:00Z").stdout)["matched"] == 2


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGTERM", "SIGINT", "lost connection"])
def test_a_replay_that_is_interrupted_loses_nothing_and_repeats_one_message_at_most(
    rabbit_stage: Stage, command: Command, ending: str
) -> None:
    count = 400
    rabbit_stage.fill(count)
    queue, dead = Queue(rabbit_stage, rabbit_stage.queue()), Queue(rabbit_stage, rabbit_stage.queue() + ".dead")
    # Slow enough to be in the middle when the blow falls: the broker's own tool takes seconds to begin.
    words = ("replay", "--queue", rabbit_stage.queue(), "--rate", "20" if ending == "lost connection" else "100")
    running = command.start(*words)
    eventually(lambda: len(queue) >= 30, 30)
    if ending == "lost connection":
        assert rabbit_stage.broker is not None
        rabbit_stage.broker.ctl("close_all_connections", "for the test")
    else:
        running.send_signal(getattr(signal, ending))
    _, err = running.communicate(timeout=30)
    codes = {"SIGKILL": -signal.SIGKILL, "SIGTERM": 130, "SIGINT": 130, "lost connection": 69}
    assert running.returncode == codes[ending], err
    if ending != "SIGKILL":
        assert "replayed before this ended; the others are where they were" in err
    done = len(queue)
    assert 30 <= done < count  # it was in the middle
    eventually(lambda: 0 <= done + len(dead) - count <= 1, 20)

    went_on = command(*words[:-1], "0")
    assert went_on.returncode == 0, went_on.stderr
    assert len(dead) == 0
    times = Counter(id for id, _ in queue.taken())
    assert len(times) == count
    assert sorted(times.values())[-2:] in ([1, 1], [1, 2])


def test_a_replay_can_be_slow(rabbit_stage: Stage, command: Command) -> None:
    rabbit_stage.fill(11)
    began = time.monotonic()
    assert command("replay", "--queue", rabbit_stage.queue(), "--rate", "20").returncode == 0
    assert time.monotonic() - began >= 10 / 20


def test_an_operator_needs_to_read_dead_letters_and_to_write_to_the_default_exchange(
    rabbit_stage: Stage, command: Command
) -> None:
    rabbit_stage.fill(2)
    broker = rabbit_stage.broker
    assert broker is not None
    user, dead = rabbit_stage.group, rabbit_stage.queue() + ".dead"
    broker.ctl("add_user", user, "secret")
    url = f"amqp://{user}:secret@127.0.0.1:{broker.port}/"
    words = ("--queue", rabbit_stage.queue(), "--url", url)
    nothing, pattern = "^$", f"^{dead.replace('.', '[.]')}$"
    broker.ctl("set_permissions", user, nothing, nothing, nothing)
    refused = command("list", *words)
    assert (refused.returncode, "lacks a permission" in refused.stderr) == (77, True), refused.stderr
    broker.ctl("set_permissions", user, nothing, nothing, pattern)
    assert "2 of 2 dead letters" in command("list", *words).stderr
    refused = command("replay", *words)
    assert (refused.returncode, "permission to write" in refused.stderr) == (77, True), refused.stderr
    assert "0 replayed before this ended" in refused.stderr
    broker.ctl("set_permissions", user, nothing, "^amq[.]default$", pattern)
    assert command("replay", *words).stdout == "2 of 2 replayed (2 looked at)\n"


def test_with_a_queue_exchange_an_operator_reaches_only_the_queues_of_their_groups(
    rabbit_stage: Stage, command: Command
) -> None:
    broker = rabbit_stage.broker
    assert broker is not None
    rabbit_stage.transport = f"{broker.url}?queue_exchange=by-name"
    rabbit_stage.fill(2)
    user, queue = rabbit_stage.group, rabbit_stage.queue().replace(".", "[.]")
    broker.ctl("add_user", user, "secret")
    broker.ctl("set_permissions", user, "^$", "^by-name$", f"^{queue}[.]dead$")
    url = f"amqp://{user}:secret@127.0.0.1:{broker.port}/?queue_exchange=by-name&declare=passive"
    words = ("replay", "--queue", rabbit_stage.queue(), "--url", url)
    broker.ctl("set_topic_permissions", user, "by-name", "^other$", "^$")
    refused = command(*words)
    assert (refused.returncode, "permission to write to topic" in refused.stderr) == (77, True), refused.stderr
    broker.ctl("set_topic_permissions", user, "by-name", f"^{queue}$", "^$")
    assert command(*words).stdout == "2 of 2 replayed (2 looked at)\n"
    assert len(Queue(rabbit_stage, rabbit_stage.queue())) == 2
