"""A bus with a spool keeps the contract of its transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from eventbus.testing import ConformanceSuite
from eventbus.testing.scenarios.batches import Batches
from eventbus.testing.scenarios.dead_letters import InspectedDeadLetters
from eventbus.testing.scenarios.failures import Failures
from eventbus.testing.scenarios.groups import Groups
from eventbus.testing.scenarios.handlers import Handlers
from eventbus.testing.scenarios.ordering import Ordering
from eventbus.testing.scenarios.partitions import Partitions
from eventbus.testing.scenarios.settling import Settling
from eventbus.transport import Transport
from tests.spool.places import SpooledTransport


class TestWithSpool(ConformanceSuite):
    lacks: ClassVar = {"restart", "inspects"}

    def make_transport(self, options: Mapping[str, Any]) -> Transport:
        return SpooledTransport()

    def disconnect(self, transport: Transport) -> None:
        assert isinstance(transport, SpooledTransport)
        transport.broker.disconnect()


# What happens to deliveries passes the spool by: these are played on the transport itself.
for subject in (Batches, Failures, Groups, Handlers, InspectedDeadLetters, Ordering, Partitions, Settling):
    for scenario in vars(subject):
        if scenario.startswith("test_"):
            setattr(TestWithSpool, scenario, None)
