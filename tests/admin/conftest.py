"""A real RabbitMQ with its management API, and virtual hosts of their own for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from eventbus_rabbitmq._local.common import free_port
from eventbus_rabbitmq.local_broker import LocalBroker
from eventbus_rabbitmq_admin._management import Management

from eventbus import Secret


@dataclass(frozen=True)
class Site:
    """A virtual host of a broker, and its management API."""

    broker: LocalBroker
    management: Management
    management_url: str
    vhost: str

    def url(self, user: str = "guest", password: str = "guest", **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"amqp://{user}:{password}@127.0.0.1:{self.broker.port}/{self.vhost}{'?' + query if query else ''}"


@pytest.fixture(scope="session")
def managed() -> Iterator[tuple[LocalBroker, str]]:
    port = free_port()
    # The API tells of what it has collected: tests would wait the usual 5 s each time.
    config = {"collect_statistics_interval": "500"}
    config |= {"management.tcp.port": str(port), "management.tcp.ip": "127.0.0.1"}
    with LocalBroker(plugins=["rabbitmq_management"], config=config) as broker:
        yield broker, f"http://127.0.0.1:{port}"


@pytest.fixture
def site(managed: tuple[LocalBroker, str]) -> Iterator[Site]:
    broker, url = managed
    vhost = f"test-{secrets.token_hex(4)}"
    with Management(url, user="guest", password=Secret("guest")) as management:
        # Not by rabbitmqctl: each of its commands costs a second of CPU.
        management.put("vhosts", vhost, body={})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        management.put("permissions", vhost, "guest", body=everything)
        yield Site(broker, management, url, vhost)
        management.delete("vhosts", vhost)
