"""The in-memory transport keeps the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from eventbus_memory import MemoryTransport

from eventbus.testing import ConformanceSuite
from eventbus.transport import Transport


class TestMemory(ConformanceSuite):
    option_sets: ClassVar = {"quorum": {"queue_type": "quorum"}, "classic": {"queue_type": "classic"}}
    lacks: ClassVar = {"restart", "counts-crashes@classic"}

    def make_transport(self, options: Mapping[str, Any]) -> Transport:
        return MemoryTransport(**options)

    def disconnect(self, transport: Transport) -> None:
        assert isinstance(transport, MemoryTransport)
        transport.broker.disconnect()
