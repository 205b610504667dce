"""A bus with a spool keeps the contract of its transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from eventbus.testing import ConformanceSuite
from eventbus.transport import Transport
from tests.spool.places import SpooledTransport


class TestWithSpool(ConformanceSuite):
    lacks: ClassVar = {"restart", "inspects"}

    def make_transport(self, options: Mapping[str, Any]) -> Transport:
        return SpooledTransport()

    def disconnect(self, transport: Transport) -> None:
        assert isinstance(transport, SpooledTransport)
        transport.broker.disconnect()
