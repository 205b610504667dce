"""``eventbus broker``: one command to a production-like broker that outlives it, and one to be rid of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eventbus_rabbitmq_admin._broker.compose import compose_text
from eventbus_rabbitmq_admin._broker.state import Wish

from eventbus import ConnectionFailed, EventBus, LoginRefused
from eventbus.testing import eventually

ROOT = Path(__file__).resolve().parents[2]
APPS = ("--app", "tests.admin.services:signup", "--app", "tests.admin.services:emails")


class Command:
    """``eventbus broker`` with a state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS_")}
        return subprocess.run(
            [sys.executable, "-m", "eventbus", "broker", words[0], "--state", str(self.state), *words[1:]],
            cwd=ROOT,
            env=clean,
            capture_output=True,
            text=True,
            timeout=110,
        )

    def ok(self, *words: str) -> str:
        ran = self.run(*words)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def pids(self) -> list[int]:
        found = self.state.glob("nodes/*/processes.json")
        return [pid for file in found for pid, _ in json.loads(file.read_text()).values()]

    def environment(self, service: str) -> dict[str, str]:
        lines = (self.state / "services" / f"{service}.env").read_text().splitlines()
        return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    made = Command(tmp_path / "broker")
    yield made
    if (made.state / "state.json").exists():
        made.run("down", "--delete")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_it_outlives_the_command_that_started_it_and_goes_with_down(command: Command) -> None:
    made: dict[str, Any] = json.loads(command.ok("up", "--vhost", "shop", *APPS, "--json"))
    pids = command.pids()
    assert len(pids) == 2  # the node and its port mapper
    assert all(alive(pid) for pid in pids)
    assert [service["service"] for service in made["services"]] == ["signup", "emails"]
    assert "***" in made["services"][0]["url"], "no password on the screen"
    with EventBus(command.environment("signup")["EVENTBUS_URL"], service="signup") as bus:
        assert bus.health().connected
    assert "runs" in command.ok("status")
    users = command.ok("ctl", "--", "list_users")
    assert ("guest" in users, "signup" in users) == (False, True)
    assert "Server startup complete" in command.ok("logs")
    command.ok("down")
    eventually(lambda: not any(alive(pid) for pid in pids), timeout=20)
    stopped = command.run("status", "--json")
    assert (stopped.returncode, json.loads(stopped.stdout)["nodes"]) == (1, [False])


def test_up_again_is_the_same_broker_with_its_data_and_passwords(command: Command) -> None:
    command.ok("up", "--vhost", "shop", *APPS)
    before, pids = command.environment("signup"), command.pids()
    command.ok("up", "--vhost", "shop", *APPS)
    assert (command.environment("signup"), command.pids()) == (before, pids)
    with EventBus(before["EVENTBUS_URL"], service="signup") as bus:
        bus.publish({"country": "se"}, topic="shop.registered.se", mandatory=True)
    command.ok("down")
    command.ok("up", "--vhost", "shop", *APPS)
    assert command.environment("signup") == before
    # Through the shell, as a person would.
    eventually(
        lambda: "emails.shop.registered\t1" in command.ok("ctl", "--", "list_queues", "-p", "shop", "name", "messages"),
        timeout=30,
    )


def test_a_node_that_died_is_started_again(command: Command) -> None:
    command.ok("up")
    pids = command.pids()
    for pid in pids:  # those that we have just started
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: command.run("status").returncode == 1, timeout=10)
    command.ok("up")
    assert command.run("status").returncode == 0
    assert set(command.pids()).isdisjoint(pids)


def test_up_again_without_apps_leaves_everybody_the_rights_that_they_had(command: Command) -> None:
    command.ok("up", "--vhost", "shop", *APPS)
    before = command.environment("signup"), command.ok("ctl", "--", "list_permissions", "-p", "shop")
    assert "eventbus" in before[1]
    command.ok("up", "--vhost", "shop")
    assert (command.environment("signup"), command.ok("ctl", "--", "list_permissions", "-p", "shop")) == before
    definitions = json.loads((command.state / "rabbitmq" / "definitions.json").read_text())
    assert [p["user"] for p in definitions["permissions"] if p["configure"] == ".*"] == ["admin"]


def test_a_user_whom_no_app_needs_any_more_is_removed(command: Command) -> None:
    command.ok("up", "--vhost", "shop")  # with a user who may do everything
    everything = command.environment("app")["EVENTBUS_URL"]
    said = command.ok("up", "--vhost", "shop", *APPS)
    assert "removed: user app" in said
    assert "app" not in command.ok("ctl", "--", "list_users")
    bus = EventBus(everything, service="app")
    with pytest.raises(LoginRefused):
        bus.start(timeout=10)
    bus.stop(1)
    assert sorted(file.name for file in command.state.glob("services/*.env")) == [
        "admin.env",
        "emails.env",
        "signup.env",
    ]
    assert "removed" not in command.ok("up", "--vhost", "shop", *APPS)


def test_a_folder_of_somebody_else_is_neither_used_nor_deleted(command: Command) -> None:
    command.state.mkdir()
    theirs = command.state / ".env"  # has a name that we use, too
    theirs.write_text("precious")
    ran = command.run("up")
    assert (ran.returncode, "holds other things (.env)" in ran.stderr) == (78, True)
    assert list(command.state.iterdir()) == [theirs]
    theirs.unlink()
    command.ok("up")
    theirs = command.state / "theirs"
    theirs.write_text("precious")
    command.ok("down", "--delete")
    assert list(command.state.iterdir()) == [theirs]


def test_a_port_that_another_program_has_taken_is_named(command: Command) -> None:
    command.ok("up")
    ports = json.loads((command.state / "nodes" / "1" / "ports.json").read_text())
    management = json.loads((command.state / "state.json").read_text())["management_ports"]
    command.ok("down")
    for port in (ports["amqp"], management[0]):
        with socket.create_server(("127.0.0.1", port)):
            ran = command.run("up")
        assert (ran.returncode, f"listens on port {port}" in ran.stderr) == (1, True), ran.stderr
    command.ok("up")


def test_a_state_without_its_nodes_says_so_and_starts_anew(command: Command) -> None:
    command.ok("up")
    command.ok("down")
    shutil.rmtree(command.state / "nodes")
    status = command.run("status")
    assert (status.returncode, "stopped" in status.stdout, status.stderr) == (1, True, "")
    for words in (("logs",), ("ctl", "--", "list_users")):
        ran = command.run(*words)
        assert (ran.returncode, "Traceback" in ran.stderr) == (1, False), ran.stderr
    command.ok("up")
    assert command.run("status").returncode == 0


def test_secrets_are_for_their_owner_only(command: Command) -> None:
    said = command.ok("up", "--vhost", "shop", *APPS)
    passwords = json.loads((command.state / "secrets.json").read_text())
    assert not [name for name, password in passwords.items() if password in said]
    assert stat.S_IMODE(command.state.stat().st_mode) == 0o700
    private = [command.state / "secrets.json", command.state / "admin.password", *command.state.glob("services/*.env")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in private} == {0o600}
    wrong = command.environment("signup")["EVENTBUS_URL"].replace(passwords["signup"], "wrong")
    bus = EventBus(wrong, service="signup")
    with pytest.raises(LoginRefused):
        bus.start(timeout=10)
    bus.stop(1)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("status",), 78, "eventbus broker up"),
        (("up", "--app", "tests.admin.services:nothing"), 78, "has no 'nothing'"),
        (("up", "--app", "tests.admin.services:climber"), 78, "cannot be a user"),
        (("up", "--app", "tests.admin.services:admin"), 78, "cannot be a user"),
        (("up", "--cluster", "0"), 64, "range"),
        (("up", "--listen", "bus.example"), 64, "no IPv4 address"),
        (("up", "--listen", "203.0.113.7"), 64, "no address 203.0.113.7"),
        (("up", "--vhost", ""), 64, "needs a name"),
        (("up", "--engine", "docker"), 1, "no RabbitMQ to start"),
    ],
)
def test_mistakes_are_said_in_a_line(command: Command, words: tuple[str, ...], code: int, said: str) -> None:
    if "docker" in words:
        from eventbus_rabbitmq._local import docker

        if docker.available():
            code, said = 0, ""  # a machine with Docker starts it
    ran = command.run(*words)
    assert (ran.returncode, said in ran.stderr) == (code, True), ran.stderr
    assert "Traceback" not in ran.stderr


def test_another_kind_of_broker_in_the_same_folder_is_refused(command: Command) -> None:
    command.ok("up", "--vhost", "shop")
    for words in (("--vhost", "shop", "--tls"), ("--vhost", "other"), ("--vhost", "shop", "--listen", "127.0.0.2")):
        ran = command.run("up", *words)
        assert (ran.returncode, "--vhost shop --listen 127.0.0.1" in ran.stderr) == (78, True), ran.stderr


def test_it_listens_where_it_is_told_and_is_verified_by_its_name(command: Command) -> None:
    address = "127.0.0.2"  # loopback too, and not the default
    made = json.loads(command.ok("up", "--tls", "--listen", address, "--host", address, "--json"))
    url = made["services"][0]["url"]
    assert f"//{address}:" in url
    with EventBus(url, service="app") as bus:
        assert bus.health().connected
    elsewhere = EventBus(url.replace(address, "127.0.0.1", 1), service="app")
    with pytest.raises(ConnectionFailed):
        elsewhere.start(timeout=2)
    elsewhere.stop(0.5)


QUEUES = ("emails.shop.registered", "emails.shop.registered.dead")


def members(command: Command) -> dict[str, list[str]]:
    told = command.ok("ctl", "--", "list_queues", "-p", "shop", "name", "members", "--formatter", "json")
    return {queue["name"]: sorted(queue["members"]) for queue in json.loads(told)}


@pytest.mark.timeout(300)
def test_three_nodes_over_tls_are_one_cluster(command: Command) -> None:
    cluster = ("up", "--tls", "--cluster", "3", "--vhost", "shop", *APPS)
    made = json.loads(command.ok(*cluster, "--json"))
    url = made["services"][0]["url"]
    assert url.count("localhost:") == 3
    # Loaded by the first node alone, a quorum queue would have no other member.
    had = members(command)
    assert {queue: len(nodes) for queue, nodes in had.items()} == dict.fromkeys(QUEUES, 3)
    third = max(had[QUEUES[0]])
    _lose_members(command, third)
    command.ok(*cluster)
    assert members(command) == had
    with EventBus(url, service="signup") as bus:
        bus.publish({"country": "se"}, topic="shop.registered.se", mandatory=True)
    conf = (command.state / "rabbitmq" / "rabbitmq.conf").read_text()
    assert "cluster_formation.classic_config.nodes.3 = rabbit@rabbit3" in conf
    assert "cluster_formation.target_cluster_size_hint = 3" in conf
    # What compose asks for, so that containers are a cluster too.
    cookie = command.state / ".env"
    assert cookie.read_text().startswith("RABBITMQ_ERLANG_COOKIE=")
    assert stat.S_IMODE(cookie.stat().st_mode) == 0o600
    assert "listeners.tcp = none" in conf


def _lose_members(command: Command, node: str) -> None:
    """What comes of queues that are made while that node is joining."""
    lose = f"[R || {{_, R}} <- rabbit_quorum_queue:shrink_all('{node}')]."
    # A queue that has just found its leader says no.
    eventually(lambda: set(re.findall(r"ok,2|error", command.ok("ctl", "--", "eval", lose))) == {"ok,2"}, timeout=60)


def test_the_compose_file_opens_its_ports_on_loopback_only() -> None:
    wish = Wish(
        engine="docker",
        vhost="shop",
        tls=True,
        size=2,
        listen="127.0.0.1",
        host="localhost",
        services=("a",),
        management_ports=(15671, 15681),
    )
    text = compose_text(wish)
    ports = [line.strip() for line in text.splitlines() if line.strip().startswith('- "')]
    assert ports == [
        '- "127.0.0.1:5671:5671"',
        '- "127.0.0.1:15671:15671"',
        '- "127.0.0.1:5681:5671"',
        '- "127.0.0.1:15681:15671"',
    ]
    assert "guest" not in text
    assert "{management}" not in text
