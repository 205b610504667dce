"""The nodes of a state folder, as an installed server runs them or as containers do."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from eventbus_rabbitmq._local.common import ANYWHERE, LOOPBACK, port_open
from eventbus_rabbitmq.local_broker import LocalBroker, LocalBrokerError, LocalTLS
from eventbus_rabbitmq.local_cluster import LocalCluster

from eventbus import ConfigurationError, EventBusError
from eventbus_rabbitmq_admin._broker.compose import GIVEN
from eventbus_rabbitmq_admin._broker.files import local_conf
from eventbus_rabbitmq_admin._broker.state import EngineName, StateFolder, Wish
from eventbus_rabbitmq_admin._conf import PLUGINS, TLS_PLUGINS


class BrokerFailed(EventBusError):
    """The broker did not start, or refused a command; the text says why."""


class Running(Protocol):
    """A broker of a state folder."""

    def start(self, timeout: float) -> None:
        """Start what does not run, and wait until clients can connect."""

    def stop(self, *, discard: bool = False) -> None:
        """Stop all nodes; the data stays, unless nobody will need it (``discard``)."""

    def running(self) -> list[bool]:
        """Whether each node runs."""

    def hosts(self) -> str:
        """``host:port,host:port`` for a URL."""

    def logs(self, number: int) -> str:
        """The log of a node."""

    def names(self) -> list[str]:
        """The nodes' names in the cluster, such as ``rabbit@rabbit1``."""

    def ctl(self, arguments: Sequence[str], *, program: str = "rabbitmqctl") -> str:
        """What rabbitmqctl, or another of RabbitMQ's commands, prints."""

    def import_definitions(self) -> None:
        """Tell the running broker what the definitions of the folder say now."""


@contextmanager
def _said_as_ours() -> Iterator[None]:
    try:
        yield
    except LocalBrokerError as error:
        raise BrokerFailed(str(error)) from error


def chosen_engine(engine: str) -> EngineName:
    """``native`` or ``docker``; for ``auto`` the installed server, else Docker.

    :raises BrokerFailed: neither can be had.
    """
    from eventbus_rabbitmq._local import docker, server

    with _said_as_ours():  # a variable may name a server that is not there
        if engine in ("auto", "native") and server.find() is not None:
            return "native"
    if engine in ("auto", "docker") and docker.available():
        return "docker"
    raise BrokerFailed(
        "no RabbitMQ to start: neither an installed rabbitmq-server nor a running Docker engine; on Debian or Ubuntu: "
        "apt-get install rabbitmq-server"
    )


def running_of(folder: StateFolder, wish: Wish) -> Running:
    """The broker of this folder."""
    return Containers(folder, wish) if wish.engine == "docker" else Nodes(folder, wish)


class Nodes:
    """Nodes of the installed server, which go on after this program."""

    def __init__(self, folder: StateFolder, wish: Wish) -> None:
        self._folder = folder
        tls = None
        if wish.tls:
            files = folder.rabbitmq / "tls"
            tls = LocalTLS(
                cafile=files / "ca.pem", certfile=files / "server.pem", keyfile=files / "server.key", verify_peer=True
            )
        self._wish = wish
        self._cluster = LocalCluster(
            wish.size,
            each={number: self._lines(wish, number) for number in range(1, wish.size + 1)},
            plugins=TLS_PLUGINS if wish.tls else PLUGINS,
            directory=folder.nodes,
            tls=tls,
            plain=not wish.tls,
            listen=wish.listen,
            detached=True,
        )
        with _said_as_ours():
            self._cluster.attach()

    def _lines(self, wish: Wish, number: int) -> dict[str, str]:
        lines = local_conf(self._folder, wish, number, amqp="", amqps="")
        # The ports are chosen by the node, and told to it there; so is its copy of the certificates.
        for name in ("listeners.tcp.1", "listeners.tcp", "listeners.ssl.1"):
            lines.pop(name, None)
        return lines

    def start(self, timeout: float) -> None:
        """Start what does not run."""
        host = LOOPBACK if self._wish.listen == ANYWHERE else self._wish.listen
        for runs, port in zip(self.running(), self._wish.management_ports, strict=True):
            if not runs and port_open(port, host):
                raise BrokerFailed(
                    f"another program listens on port {port}, where the management API was: stop it, or make the "
                    "broker anew with: eventbus broker down --delete"
                )
        with _said_as_ours():
            self._cluster.start(timeout)

    def stop(self, *, discard: bool = False) -> None:
        """Stop all nodes, by force where their data is not needed."""
        with _said_as_ours():
            if discard:
                self._cluster.kill()
            self._cluster.close()

    def running(self) -> list[bool]:
        """Whether each node runs."""
        return [node.running for node in self._cluster.nodes]

    def hosts(self) -> str:
        """For a URL."""
        return ",".join(f"{self._wish.host}:{_port(node, tls=self._wish.tls)}" for node in self._cluster.nodes)

    def logs(self, number: int) -> str:
        """The log of a node."""
        with _said_as_ours():
            return self._cluster.nodes[number - 1].log_text()

    def names(self) -> list[str]:
        """The nodes' names."""
        return [f"{node.name}@localhost" for node in self._cluster.nodes]

    def ctl(self, arguments: Sequence[str], *, program: str = "rabbitmqctl") -> str:
        """What rabbitmqctl, or another of RabbitMQ's commands, prints."""
        if not any(self.running()):
            raise BrokerFailed("it does not run: start it with eventbus broker up")
        with _said_as_ours():
            return self._cluster.ctl(*arguments, program=program)

    def import_definitions(self) -> None:
        """From the folder."""
        self.ctl(["import_definitions", str(self._folder.rabbitmq / "definitions.json")])


def _port(node: LocalBroker, *, tls: bool) -> int | str:
    try:
        return node.tls_port if tls else node.port
    except LocalBrokerError:  # it has never been started, so it has none
        return "(none yet)"


class Containers:
    """Containers, by the compose file of the folder."""

    def __init__(self, folder: StateFolder, wish: Wish) -> None:
        self._folder = folder
        self._wish = wish

    def start(self, timeout: float) -> None:
        """Start what does not run."""
        self._compose("up", "--detach", "--wait", "--wait-timeout", str(round(timeout)), timeout=timeout + 600)

    def stop(self, *, discard: bool = False) -> None:
        """Stop and remove the containers; their volumes stay, unless nobody will need them."""
        self._compose("down", *(["--volumes"] if discard else []))

    def running(self) -> list[bool]:
        """Whether each node runs."""
        found = self._compose("ps", "--services", "--filter", "status=running").split()
        return [f"rabbit{number}" in found for number in range(1, self._wish.size + 1)]

    def hosts(self) -> str:
        """For a URL."""
        first = 5671 if self._wish.tls else 5672
        return ",".join(f"{self._wish.host}:{first + 10 * number}" for number in range(self._wish.size))

    def logs(self, number: int) -> str:
        """The log of a node."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self._compose("logs", "--no-log-prefix", f"rabbit{number}"))

    def names(self) -> list[str]:
        """The nodes' names."""
        return [f"rabbit@rabbit{number}" for number in range(1, self._wish.size + 1)]

    def ctl(self, arguments: Sequence[str], *, program: str = "rabbitmqctl") -> str:
        """What rabbitmqctl, or another of RabbitMQ's commands, prints."""
        return self._compose("exec", "-T", "rabbit1", program, "-q", *arguments)

    def import_definitions(self) -> None:
        """From the folder, as the container sees it."""
        self.ctl(["import_definitions", f"{GIVEN}/definitions.json"])

    def _compose(self, *arguments: str, timeout: float = 120.0) -> str:
        docker = shutil.which("docker")
        if docker is None:
            raise ConfigurationError("docker is not installed")
        command = [docker, "compose", "--file", str(self._folder.compose), *arguments]
        try:
            done = subprocess.run(  # noqa: S603 (no shell; our own file)
                command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise BrokerFailed(f"docker compose {arguments[0]} did not end within {timeout:.0f} s") from error
        if done.returncode != 0:
            raise BrokerFailed(f"docker compose {arguments[0]} failed: {done.stderr.strip()[-800:]}")
        return done.stdout
