"""In-memory transport of eventbus: RabbitMQ's semantics in one process, for tests and single-process use."""

from __future__ import annotations

from ._broker import MemoryBroker, QueueSnapshot
from ._clock import Clock, ManualClock, SystemClock
from ._faults import Fault, FaultPlan
from ._queue import Consumer
from ._transport import MemoryTransport

__all__ = [
    "Clock",
    "Consumer",
    "Fault",
    "FaultPlan",
    "ManualClock",
    "MemoryBroker",
    "MemoryTransport",
    "QueueSnapshot",
    "SystemClock",
]
