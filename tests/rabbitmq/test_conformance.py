"""The RabbitMQ transport keeps the contract, on a real broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from eventbus_rabbitmq import RabbitMQTransport
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus.testing import ConformanceSuite
from eventbus.transport import Transport


class TestRabbitMQ(ConformanceSuite):
    option_sets: ClassVar = {"quorum": {"queue_type": "quorum"}, "classic": {"queue_type": "classic"}}
    lacks: ClassVar = {"counts-crashes@classic"}

    @pytest.fixture(autouse=True)
    def _use(self, broker: LocalBroker) -> None:
        self.broker = broker

    def make_transport(self, options: Mapping[str, Any]) -> Transport:
        return RabbitMQTransport.from_url(f"{self.broker.url}?queue_type={options['queue_type']}")

    def restart_broker(self) -> None:
        self.broker.restart()

    def disconnect(self, transport: Transport) -> None:
        self.broker.ctl("close_all_connections", "a scenario wants it")
