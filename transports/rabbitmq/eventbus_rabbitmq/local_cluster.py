"""A private RabbitMQ cluster on this machine: several nodes of :class:`LocalBroker` that know each other.

::

    with LocalCluster(3) as cluster:
        print(cluster.url)          # amqp://guest:guest@127.0.0.1:23456,127.0.0.1:23457,127.0.0.1:23458/
        cluster.nodes[0].kill()     # the others go on

Runs the installed server. Not for production: one machine is one point of failure.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ._local.common import LOOPBACK, LocalBrokerError, LocalTLS, free_port
from .local_broker import LocalBroker

__all__ = ["LocalCluster"]


class LocalCluster:
    """Some nodes that form one cluster. Creating the object does nothing yet; :meth:`start` or ``with`` starts them.

    The parameters are those of :class:`LocalBroker`, for each node; the nodes live in folders ``1``, ``2``... of
    ``directory``. ``each`` gives lines of rabbitmq.conf that differ, by the node's number from 1.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        config: Mapping[str, str] | None = None,
        each: Mapping[int, Mapping[str, str]] | None = None,
        plugins: Sequence[str] = (),
        directory: Path | None = None,
        tls: LocalTLS | None = None,
        plain: bool = True,
        listen: str = LOOPBACK,
        detached: bool = False,
    ) -> None:
        if size < 1:
            raise ValueError("a cluster has at least one node")
        self._temporary = tempfile.TemporaryDirectory(prefix="eventbus-cluster-") if directory is None else None
        folder = Path(self._temporary.name) if self._temporary is not None else Path(directory or ".").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        name = f"eventbus-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"
        self._epmd_port, cookie = _kept(folder)
        self.nodes = tuple(
            LocalBroker(
                engine="native",
                name=f"{name}-{number}",
                config={
                    **_joining(name, number),
                    **(config or {}),
                    **((each or {}).get(number, {})),
                },
                plugins=plugins,
                directory=folder / str(number),
                tls=tls,
                plain=plain,
                listen=listen,
                detached=detached,
                epmd_port=self._epmd_port,
                cookie=cookie,
            )
            for number in range(1, size + 1)
        )

    def start(self, timeout: float = 120) -> None:
        """Starts all nodes and returns when clients can connect to each; does nothing for those that run.

        :raises LocalBrokerError: a node did not start; see :meth:`LocalBroker.start`.
        """
        first, *others = self.nodes
        first.start(timeout)  # alone, so that the others find a cluster to join
        failures: list[BaseException] = []

        def start(node: LocalBroker) -> None:
            try:
                node.start(timeout)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=start, args=(node,)) for node in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def attach(self) -> bool:
        """Finds detached nodes that an earlier program has started; gives whether all of them run."""
        found = [node.attach() for node in self.nodes]
        return all(found)

    def stop(self, timeout: float = 15) -> None:
        """Stops all nodes in order; the data stays."""
        for node in reversed(self.nodes):
            node.stop(timeout)

    def kill(self) -> None:
        """Ends all nodes that run by SIGKILL; see :meth:`LocalBroker.kill`."""
        for node in self.nodes:
            if node.running:
                node.kill()

    def close(self) -> None:
        """Stops all nodes, and removes the temporary folder."""
        if self._temporary is not None:
            self.kill()  # an orderly stop takes seconds, and saves what goes away now
        for node in reversed(self.nodes):  # the first one has the port mapper
            node.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def running(self) -> bool:
        """Whether every node's process lives."""
        return all(node.running for node in self.nodes)

    @property
    def url(self) -> str:
        """``amqp://guest:guest@127.0.0.1:PORT,127.0.0.1:PORT.../`` with all nodes."""
        hosts = ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)
        return f"amqp://guest:guest@{hosts}/"

    def ctl(self, *args: str, timeout: float = 60, program: str = "rabbitmqctl") -> str:
        """Runs ``rabbitmqctl`` against the first node that runs; see :meth:`LocalBroker.ctl`."""
        node = next((node for node in self.nodes if node.running), None)
        if node is None:
            raise LocalBrokerError("no node of the cluster runs")
        return node.ctl(*args, timeout=timeout, program=program)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LocalCluster({len(self.nodes)} nodes)"


def _joining(name: str, number: int) -> dict[str, str]:
    """How a node finds the cluster: the first one makes it, the others join that one.

    Were all told of all, RabbitMQ 4 would make the first one wait for the others.
    """
    if number == 1:
        return {}
    return {
        "cluster_formation.peer_discovery_backend": "classic_config",
        "cluster_formation.classic_config.nodes.1": f"{name}-1@localhost",
        "cluster_formation.classic_config.nodes.2": f"{name}-{number}@localhost",
    }


def _kept(folder: Path) -> tuple[int, str]:
    """The port of the port mapper, and the cookie that the nodes know each other by; the same in the same folder."""
    file = folder / "cluster"
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as written:
            written.write(f"{free_port()} {secrets.token_hex(20)}")
    port, cookie = file.read_text().split()
    return int(port), cookie
