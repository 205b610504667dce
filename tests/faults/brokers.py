"""Private brokers of the suite, and how faults get at them: rabbitmqctl, the management API, and a client of another
kind (pika, as it is)."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
from eventbus_rabbitmq._local.common import free_port
from eventbus_rabbitmq.local_broker import LocalBroker, LocalBrokerError, LocalTLS
from eventbus_rabbitmq.local_cluster import LocalCluster

from eventbus.testing import eventually

PLUGINS = ("rabbitmq_management",)
LOOPBACK = "127.0.0.1"


@dataclass
class Site:
    """A virtual host and a user for one run: nothing of another run can be met there."""

    node: Node
    vhost: str
    user: str
    password: str

    @property
    def host(self) -> str:
        """Where the node listens."""
        return f"{LOOPBACK}:{self.node.broker.port}"

    def url(self, host: str | None = None, *, scheme: str = "amqp", **options: Any) -> str:
        """An AMQP URL of this run's user."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{scheme}://{self.user}:{self.password}@{host or self.host}/{self.vhost}{'?' + query if query else ''}"

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        """A channel of a plain pika connection."""
        parameters = pika.ConnectionParameters(
            LOOPBACK,
            self.node.broker.port,
            self.vhost,
            pika.PlainCredentials("guest", "guest"),
            blocked_connection_timeout=10,
            heartbeat=0,
        )
        connection = pika.BlockingConnection(parameters)
        try:
            yield connection.channel()
        finally:
            with contextlib.suppress(Exception):
                connection.close()

    def ready(self, queue: str) -> int:
        """Messages that wait in a queue."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

    def take(self, queue: str) -> list[tuple[Any, bytes]]:
        """All messages of a queue, removed: ``(properties, body)``."""
        found: list[tuple[Any, bytes]] = []
        with self.channel() as channel:
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return found
                found.append((properties, body))

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the management API, below ``/api``; ``{v}`` in the path stands for the virtual host."""
        return self.node.api(method, path.replace("{v}", self.vhost), body)

    def connections(self, like: str) -> list[str]:
        """Names of this run's connections whose client name has ``like`` in it."""
        return [
            c["name"]
            for c in self.api("GET", "/vhosts/{v}/connections")
            if like in c.get("client_properties", {}).get("connection_name", "")
        ]

    def close_connections(self, like: str, least: int = 1) -> int:
        """Close them as an operator would, once so many are known; gives how many were closed."""
        eventually(lambda: len(self.connections(like)) >= least, 20, what=f"{least} connections like {like!r}")
        closed = 0
        for name in self.connections(like):
            try:
                self.api("DELETE", f"/connections/{quote(name, safe='')}")
                closed += 1
            except urllib.error.HTTPError as error:
                if error.code != 404:  # gone by itself
                    raise
        return closed

    def permit(self, *, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Set the permissions of the run's user."""
        self.api("PUT", f"/permissions/{{v}}/{self.user}", {"configure": configure, "write": write, "read": read})

    def set_password(self, password: str) -> None:
        """Change the user's password at the broker."""
        self.api("PUT", f"/users/{self.user}", {"password": password, "tags": ""})

    def remove(self) -> None:
        """Forget the virtual host and the user."""
        for path in ("/vhosts/{v}", f"/users/{self.user}"):
            with contextlib.suppress(OSError):
                self.api("DELETE", path)


class Node:
    """A broker with its management API. Start takes some seconds, so many runs share one."""

    def __init__(self, *, tls: LocalTLS | None = None, folder: Path | None = None) -> None:
        self.port = free_port()
        config = {"management.tcp.port": str(self.port), "management.tcp.ip": LOOPBACK}
        self.broker = LocalBroker(plugins=PLUGINS, config=config, tls=tls, directory=folder)

    def start(self) -> None:
        """Until clients and the management API are answered."""
        self.broker.start()
        eventually(self._answers, 30, what="the management API")

    def close(self) -> None:
        self.broker.close()

    def ctl(self, *words: str) -> str:
        """rabbitmqctl."""
        return self.broker.ctl(*words)

    def log_text(self) -> str:
        """All that the broker has logged."""
        return self.broker.log_text()

    def _answers(self) -> bool:
        try:
            return bool(self.api("GET", "/overview"))
        except OSError:
            return False

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the management API."""
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self.port}/api{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": "Basic " + base64.b64encode(b"guest:guest").decode(),
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def site(self, name: str) -> Site:
        """A new virtual host with a user, whose password nobody may find anywhere."""
        password = f"S3cr3t-{secrets.token_hex(8)}"
        site = Site(self, f"{name}-{secrets.token_hex(2)}", f"u-{secrets.token_hex(4)}", password)
        site.api("PUT", "/vhosts/{v}")
        site.api("PUT", "/permissions/{v}/guest", {"configure": ".*", "write": ".*", "read": ".*"})
        site.set_password(password)
        site.permit()
        return site


class ClusterNode(Node):
    """Three nodes; the management API is the first one's that is asked for."""

    def __init__(self, config: dict[str, str] | None = None) -> None:
        self.ports = [free_port() for _ in range(3)]
        self.cluster = LocalCluster(
            3,
            plugins=PLUGINS,
            config={"cluster_partition_handling": "pause_minority", **(config or {})},
            each={
                number: {"management.tcp.port": str(port), "management.tcp.ip": LOOPBACK}
                for number, port in enumerate(self.ports, 1)
            },
        )
        self.port = self.ports[0]
        self.broker = self.cluster.nodes[0]

    def start(self) -> None:
        self.cluster.start()
        eventually(self._answers, 60, what="the management API of the cluster")

    def close(self) -> None:
        self.cluster.close()

    def use(self, number: int) -> None:
        """Ask this node (from 0) from now on."""
        self.port, self.broker = self.ports[number], self.cluster.nodes[number]

    def leader(self, site: Site, queue: str) -> int:
        """The number of the node that leads a queue."""
        lines = [line.split("\t") for line in self.ctl("list_queues", "-p", site.vhost, "name", "leader").splitlines()]
        leader = next(line[1] for line in lines if line[0] == queue)
        return next(n for n, node in enumerate(self.cluster.nodes) if f"{node.name}@localhost" == leader)

    def sync(self) -> None:
        """What all nodes know of queues is on disk."""
        for node in self.cluster.nodes:
            node.sync()

    def others(self, number: int) -> list[int]:
        """The numbers of the other nodes."""
        return [n for n in range(len(self.cluster.nodes)) if n != number]

    def running(self) -> list[str]:
        """The nodes that the one that is asked sees running."""
        try:
            return list(json.loads(self.ctl("cluster_status", "--formatter", "json"))["running_nodes"])
        except LocalBrokerError:  # it has paused itself
            return []

    def whole(self) -> None:
        """Until all nodes run and see each other."""
        eventually(lambda: len(self.running()) == len(self.cluster.nodes), 90, what="a whole cluster")

    def isolate(self, number: int) -> None:
        """Part a node from the others, but not from its clients: it changes what it takes for their cookie.

        So the nodes lose each other and are refused when they call again, as in a partition of the network between
        them. At once on both links: a node that loses one and keeps the other is a different, partial, partition.
        """
        part = "[erlang:set_cookie(N, parted) || N <- nodes()], [erlang:disconnect_node(N) || N <- nodes()]."
        self.cluster.nodes[number].ctl("eval", part)

    def rejoin(self) -> None:
        """Let all nodes meet again."""
        names = ", ".join(f"'{node.name}@localhost'" for node in self.cluster.nodes)
        for node in self.cluster.nodes:
            if node.running:
                node.ctl("eval", f"C = erlang:get_cookie(), [erlang:set_cookie(N, C) || N <- [{names}], N =/= node()].")

    def hosts(self) -> str:
        """All nodes, for a URL."""
        return ",".join(f"{LOOPBACK}:{node.port}" for node in self.cluster.nodes)
