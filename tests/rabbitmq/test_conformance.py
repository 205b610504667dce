"""The RabbitMQ transport keeps the contract, on a real broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from eventbus_rabbitmq import RabbitMQTransport
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus.testing import ConformanceSuite
from eventbus.transport import Transport
from tests.rabbitmq.certificates import Certificates


class TestRabbitMQ(ConformanceSuite):
    option_sets: ClassVar = {"quorum": {"queue_type": "quorum"}, "classic": {"queue_type": "classic"}}
    lacks: ClassVar = {"counts-crashes@classic"}

    @pytest.fixture(autouse=True)
    def _use(self, broker: LocalBroker, certificates: Certificates) -> None:
        self.broker = broker
        self.certificates = certificates

    def make_transport(self, options: Mapping[str, Any]) -> Transport:
        return RabbitMQTransport.from_url(f"{self.broker.url}?queue_type={options['queue_type']}")

    def restart_broker(self) -> None:
        self.broker.restart()

    def disconnect(self, transport: Transport) -> None:
        self.broker.ctl("close_all_connections", "a scenario wants it")


class TestRabbitMQWithoutTheDefaultExchange(TestRabbitMQ):
    """Retries, dead letters and replies by way of an exchange of their own, to which topic permissions apply."""

    option_sets: ClassVar = {"quorum": {"queue_type": "quorum"}}
    lacks: ClassVar = set()

    def make_transport(self, options: Mapping[str, Any]) -> Transport:
        return RabbitMQTransport.from_url(f"{self.broker.url}?queue_exchange=eventbus.queues")


class TestRabbitMQOverTLS(TestRabbitMQ):
    """The lane is above TLS, so it must make no difference."""

    option_sets: ClassVar = {"classic": {"queue_type": "classic"}}
    lacks: ClassVar = {"counts-crashes@classic"}

    def make_transport(self, options: Mapping[str, Any]) -> Transport:
        query = f"queue_type={options['queue_type']}&cacertfile={quote(str(self.certificates.ca))}"
        return RabbitMQTransport.from_url(f"{self.broker.tls_url}?{query}")
