"""``eventbus publish``, ``request`` and ``tail``, over a real RabbitMQ."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import EventBus, Request, event
from eventbus.testing import eventually
from tests.cli.conftest import Command


@event("cli.ask")
@dataclass(frozen=True)
class Ask(Request[dict[str, int]]):
    n: int = 0
    fail: bool = False


@pytest.fixture
def seen(broker: LocalBroker) -> Iterator[list[Any]]:
    arrived: list[Any] = []
    bus = EventBus(broker.url, service="observer")

    @bus.subscribe(pattern="cli.#", broadcast=True, name="all")
    def see(body: Any, delivery: Any) -> None:
        arrived.append((delivery.topic, body, delivery.message.type, dict(delivery.headers)))

    with bus:
        yield arrived


def test_an_event_is_published_with_topic_and_headers(broker: LocalBroker, command: Command, seen: list[Any]) -> None:
    ran = command.run(
        "publish", "cli.thing", '{"n": 1}', "--topic", "cli.thing.se", "--header", "who=me", EVENTBUS_URL=broker.url
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("cli.thing: confirmed (topic cli.thing.se, exchange eventbus.events, id ")
    eventually(lambda: ("cli.thing.se", {"n": 1}, "cli.thing", {"who": "me"}) in seen, timeout=10)


@pytest.mark.parametrize("way", ["file", "dash", "nothing"])
def test_the_json_may_come_from_a_file_or_from_standard_input(
    broker: LocalBroker, command: Command, seen: list[Any], way: str, tmp_path: Path
) -> None:
    (tmp_path / "event.json").write_text('{"way": "file"}')
    words = {"file": ["@event.json"], "dash": ["-"], "nothing": []}[way]
    ran = command.run("publish", "cli.way", *words, text='{"way": "input"}', EVENTBUS_URL=broker.url)
    assert ran.returncode == 0, ran.stderr
    wanted = {"way": "file" if way == "file" else "input"}
    eventually(lambda: wanted in [event for _, event, _, _ in seen], timeout=10)


def test_an_app_gives_topic_and_checks_the_fields(broker: LocalBroker, command: Command, seen: list[Any]) -> None:
    words = ("publish", "cli.registered")
    ran = command.run(*words, '{"country": "se"}', "--app", "apps:bus", EVENTBUS_URL=broker.url)
    assert ran.returncode == 0, ran.stderr
    eventually(lambda: "cli.registered.se" in [topic for topic, _, _, _ in seen], timeout=10)
    wrong = command.run(*words, '{"land": "se"}', "--app", "apps:bus", EVENTBUS_URL=broker.url)
    assert (wrong.returncode, "country" in wrong.stderr) == (64, True)
    unknown = command.run("publish", "cli.unknown", "{}", "--app", "apps:bus", EVENTBUS_URL=broker.url)
    assert (unknown.returncode, "known: cli.quote, cli.registered" in unknown.stderr) == (64, True)


def test_nobody_listening_is_said_and_with_mandatory_it_fails(broker: LocalBroker, command: Command) -> None:
    told = command.run("publish", "nobody.listens", "{}", EVENTBUS_URL=broker.url)
    assert (told.returncode, "nobody is subscribed" in told.stdout) == (0, True)
    as_json = command.run("publish", "nobody.listens", "{}", "--json", EVENTBUS_URL=broker.url)
    assert json.loads(as_json.stdout)["routed"] is False
    assert command.run("publish", "nobody.listens", "{}", "--mandatory", EVENTBUS_URL=broker.url).returncode == 1


def test_a_question_prints_its_answer(broker: LocalBroker, command: Command) -> None:
    bus = EventBus(broker.url, service="answers")

    @bus.respond(Ask)
    def answer(question: Ask) -> dict[str, int]:
        if question.fail:
            raise ValueError("no such thing")
        return {"twice": 2 * question.n}

    with bus:
        ran = command.run("request", "cli.ask", '{"n": 21}', EVENTBUS_URL=broker.url)
        assert (ran.returncode, json.loads(ran.stdout)) == (0, {"twice": 42}), ran.stderr
        failed = command.run("request", "cli.ask", '{"fail": true}', EVENTBUS_URL=broker.url)
        assert (failed.returncode, "ValueError: no such thing" in failed.stderr) == (1, True)
    nobody = command.run("request", "cli.ask", "{}", "--timeout", "2", EVENTBUS_URL=broker.url)
    assert (nobody.returncode, "no responder" in nobody.stderr) == (1, True)


def test_the_answer_may_be_a_line_and_a_question_of_an_app_is_checked(broker: LocalBroker, command: Command) -> None:
    served = command.start("run", "apps:async_bus", EVENTBUS_URL=broker.url)
    try:
        ask = ("request", "cli.quote", "--app", "apps:bus", "--json", '{"product": "tea"}')
        answered = eventually(
            lambda: ran if (ran := command.run(*ask, EVENTBUS_URL=broker.url)).returncode == 0 else None, timeout=20
        )
        assert answered.stdout == "3\n"
        wrong = command.run(*ask[:-1], '{"product": 3}', EVENTBUS_URL=broker.url)
        assert (wrong.returncode, "product" in wrong.stderr) == (64, True)
    finally:
        served.terminate()
        served.communicate(timeout=30)


def test_a_question_without_an_answer_in_time_says_so(broker: LocalBroker, command: Command) -> None:
    bus, asked = EventBus(broker.url, service="answers"), threading.Event()

    @bus.respond(Ask)
    def answer(question: Ask) -> dict[str, int]:
        asked.wait(30)
        return {}

    with bus:
        ran = command.run("request", "cli.ask", "{}", "--timeout", "0.5", EVENTBUS_URL=broker.url)
        asked.set()
    assert (ran.returncode, "RequestTimeout" in ran.stderr, ran.stdout) == (1, True, "")


def test_many_events_are_counted_by_their_outcome(broker: LocalBroker, command: Command, seen: list[Any]) -> None:
    ran = command.run("publish", "cli.many", '{"n": 1}', "--count", "300", EVENTBUS_URL=broker.url)
    assert (ran.returncode, ran.stdout) == (0, "cli.many: 300 confirmed\n"), ran.stderr
    eventually(lambda: [topic for topic, _, _, _ in seen].count("cli.many") == 300, timeout=20)
    nobody = ("publish", "nobody.listens", "{}", "--count", "3")
    told = command.run(*nobody, "--json", EVENTBUS_URL=broker.url)
    assert (told.returncode, json.loads(told.stdout)["unroutable"]) == (0, 3)
    assert command.run(*nobody, "--mandatory", EVENTBUS_URL=broker.url).returncode == 1


def test_a_file_of_json_lines_is_published_up_to_the_first_mistake(
    broker: LocalBroker, command: Command, seen: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "events.ndjson").write_text('{"country": "se"}\n\n{"country": "fr"}\n{"land": 1}\n{"country": "de"}\n')
    words = ("publish", "cli.registered", "--app", "apps:bus", "--file")
    ran = command.run(*words, "events.ndjson", EVENTBUS_URL=broker.url)
    assert (ran.returncode, "line 4" in ran.stderr, ran.stdout) == (64, True, "cli.registered: 2 confirmed\n")
    again = command.run(*words, "-", text='{"country": "no"}\n', EVENTBUS_URL=broker.url)
    assert (again.returncode, again.stdout) == (0, "cli.registered: 1 confirmed\n")
    topics = {"cli.registered.se", "cli.registered.fr", "cli.registered.no"}
    eventually(lambda: topics <= {topic for topic, _, _, _ in seen}, timeout=10)
    assert "cli.registered.de" not in {topic for topic, _, _, _ in seen}


def test_without_an_url_the_broker_is_that_of_the_app(broker: LocalBroker, command: Command, seen: list[Any]) -> None:
    (command.folder / "own.py").write_text(f"import eventbus\nbus = eventbus.EventBus({broker.url!r}, service='own')\n")
    with_class = (command.folder / "own.py").read_text() + (
        "from dataclasses import dataclass\n@eventbus.event('cli.own')\n@dataclass\nclass Own:\n    n: int\n"
        "@bus.subscribe(Own, broadcast=True)\ndef own(event): ...\n"
    )
    (command.folder / "own.py").write_text(with_class)
    ran = command.run("publish", "cli.own", '{"n": 1}', "--app", "own:bus")
    assert ran.returncode == 0, ran.stderr
    eventually(lambda: "cli.own" in [topic for topic, _, _, _ in seen], timeout=10)


def test_a_wrong_password_is_said_without_it(broker: LocalBroker, command: Command) -> None:
    url = broker.url.replace("guest:guest", "guest:S3cr3t")
    ran = command.run("publish", "cli.x", "{}", "--timeout", "3", EVENTBUS_URL=url)
    assert ran.returncode != 0
    assert "password" in ran.stderr
    assert "S3cr3t" not in ran.stderr + ran.stdout


def test_what_the_user_may_not_do_ends_with_77(broker: LocalBroker, command: Command) -> None:
    for word in ("publish", "request"):  # so that the exchanges are there
        command.run(word, "cli.x", "{}", EVENTBUS_URL=broker.url)
    broker.ctl("add_user", "nobody", "pass")
    broker.ctl("set_permissions", "nobody", "^$", "^$", "^$")
    url = broker.url.replace("guest:guest", "nobody:pass")
    for words in (("publish", "cli.x", "{}"), ("request", "cli.x", "{}", "--timeout", "2"), ("tail",)):
        for declare in ("", "?declare=passive"):
            ran = command.run(*words, EVENTBUS_URL=url + declare)
            assert (ran.returncode, "permission" in ran.stderr) == (77, True), (words, declare, ran.stderr)


def test_tail_needs_no_more_than_the_permissions_that_its_page_names(broker: LocalBroker, command: Command) -> None:
    command.run("publish", "cli.x", "{}", EVENTBUS_URL=broker.url)  # so that the exchange is there
    broker.ctl("add_user", "watcher", "pass")
    broker.ctl("set_permissions", "watcher", "^amq\\.gen-.*", "^amq\\.gen-.*", "^(amq\\.gen-.*|eventbus\\.events)$")
    tail = Tail(command, broker.url.replace("guest:guest", "watcher:pass") + "?declare=passive", "--limit", "1")
    command.run("publish", "cli.watched", "{}", EVENTBUS_URL=broker.url)
    assert tail.wait() == 0
    assert "cli.watched" in tail.lines[0]


class Tail:
    """``eventbus tail`` under way."""

    def __init__(self, command: Command, url: str, *words: str) -> None:
        self.process = command.start("tail", *words, EVENTBUS_URL=url)
        self.lines: list[str] = []
        self.told: list[str] = []
        self.listening = threading.Event()
        self._threads = [
            threading.Thread(target=self._out, daemon=True),
            threading.Thread(target=self._err, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        assert self.listening.wait(30)

    def _out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def _err(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(line)
            if line.startswith("listening"):
                self.listening.set()

    def wait(self) -> int:
        code = self.process.wait(30)
        for thread in self._threads:
            thread.join(10)
        return code


def raw(broker: LocalBroker, topic: str, body: bytes) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    connection.channel().basic_publish("eventbus.events", topic, body)
    connection.close()


def test_tail_shows_what_goes_by_and_takes_nothing(broker: LocalBroker, command: Command, seen: list[Any]) -> None:
    tail = Tail(command, broker.url, "cli.#", "--limit", "2")
    command.run("publish", "cli.tailed", '{"n": 1}', EVENTBUS_URL=broker.url)
    raw(broker, "cli.raw", b"\xff\x00 no json \x1b[31m")
    assert tail.wait() == 0
    assert 'cli.tailed type=cli.tailed from=eventbus-cli 7 B {"n":1}' in tail.lines[0].replace('": ', '":')
    assert "bytes that are no text" in tail.lines[1]
    eventually(lambda: "cli.tailed" in [topic for topic, _, _, _ in seen], timeout=10)


def test_tail_as_json_is_a_document_a_line(broker: LocalBroker, command: Command, seen: list[Any]) -> None:
    tail = Tail(command, broker.url, "cli.json", "--json", "--limit", "2")
    command.run("publish", "cli.json", '{"n": 1}', "--header", "a=b", EVENTBUS_URL=broker.url)
    raw(broker, "cli.json", b"\xff")
    assert tail.wait() == 0
    first, second = (json.loads(line) for line in tail.lines)
    assert (first["topic"], first["body"], first["headers"]) == ("cli.json", {"n": 1}, {"a": "b"})
    assert second["body_base64"] == "/w=="


def test_a_hostile_message_cannot_act_on_the_terminal(broker: LocalBroker, command: Command) -> None:
    for words in ((), ("--json",)):
        tail = Tail(command, broker.url, "hostile.#", "--limit", "1", *words)
        raw(broker, "hostile.\x1b[2J", '\x1b[31m {"a": "\u202e\x9b"}\r\n'.encode())
        assert tail.wait() == 0
        (line,) = tail.lines
        assert line.isprintable()
        assert "31m" in line


def test_a_broker_that_goes_and_comes_back_is_listened_to_again(command: Command) -> None:
    with LocalBroker() as own:
        tail = Tail(command, own.url, "cli.#", "--limit", "1")
        own.kill()
        eventually(lambda: "not listening" in "".join(tail.told), timeout=30)
        tail.listening.clear()
        own.start()
        assert tail.listening.wait(60)
        command.run("publish", "cli.again", "{}", EVENTBUS_URL=own.url)
        assert tail.wait() == 0
        assert "cli.again" in tail.lines[0]


def test_tail_ends_by_itself_and_by_ctrl_c(broker: LocalBroker, command: Command, seen: list[Any]) -> None:
    assert Tail(command, broker.url, "--for", "0.5").wait() == 0
    tail = Tail(command, broker.url)
    os.kill(tail.process.pid, signal.SIGINT)
    assert tail.wait() == 0


def test_tail_of_an_exchange_that_is_not_there_says_so(broker: LocalBroker, command: Command) -> None:
    ran = command.run("tail", "--exchange", "nowhere", EVENTBUS_URL=broker.url)
    assert (ran.returncode, ran.stdout) == (78, "")
    assert "no exchange 'nowhere': check the name" in ran.stderr
    assert "Traceback" not in ran.stderr
