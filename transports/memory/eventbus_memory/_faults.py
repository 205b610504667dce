"""Scripted faults: what a broker does on a bad day, so that tests can ask for it."""

from __future__ import annotations

import threading
import weakref
from typing import Literal

from eventbus._errors import ConfigurationError
from eventbus._routing import topic_matches

from ._broker import MemoryBroker

FaultKind = Literal["nack", "unroutable", "never_confirm", "duplicate", "refuse"]


class Fault:
    """One scripted fault. ``fired`` counts how often it happened; ``times=None`` is for ever."""

    def __init__(self, kind: FaultKind, topic: str, times: int | None, *, taken: bool = False) -> None:
        if times is not None and times < 1:
            raise ConfigurationError("times is at least 1, or None for ever")
        self.kind = kind
        self.topic = topic
        self.times = times
        self.taken = taken
        self.fired = 0

    @property
    def spent(self) -> bool:
        """Whether it will not happen again."""
        return self.times is not None and self.fired >= self.times

    def __repr__(self) -> str:
        return f"Fault({self.kind}, topic={self.topic!r}, fired={self.fired}, times={self.times})"


class FaultPlan:
    """Faults that the links of a :class:`MemoryTransport` meet when they publish.

    ``topic`` is a topic pattern. The first fault in the plan that fits a message and is not spent
    happens to it; every method gives the fault, which counts. May be used from any thread, also while
    buses run.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._brokers: weakref.WeakSet[MemoryBroker] = weakref.WeakSet()
        self.active = False
        """Whether there is anything to look for; links read it without the lock, at every publish."""

    def nack(self, *, times: int | None = 1, topic: str = "#") -> Fault:
        """The broker refuses the message: Rejected."""
        return self._add(Fault("nack", topic, times))

    def unroutable(self, *, times: int | None = 1, topic: str = "#") -> Fault:
        """The broker has no queue for the message: Unroutable."""
        return self._add(Fault("unroutable", topic, times))

    def never_confirm(self, *, times: int | None = 1, topic: str = "#", taken: bool = True) -> Fault:
        """No confirm comes: PublishUnknown at the deadline. ``taken`` says whether the broker has the message."""
        return self._add(Fault("never_confirm", topic, times, taken=taken))

    def duplicate(self, *, times: int | None = 1, topic: str = "#") -> Fault:
        """The message is delivered twice; the second arrival is marked as redelivered."""
        return self._add(Fault("duplicate", topic, times))

    def refuse(self, *, times: int | None = 1, topic: str = "#") -> Fault:
        """The message does not leave the process: NotSent."""
        return self._add(Fault("refuse", topic, times))

    def disconnect(self) -> None:
        """Every link of the broker loses its connection and comes back: unsettled messages are delivered again."""
        for broker in list(self._brokers):
            broker.disconnect()

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()
            self.active = False

    def next_for(self, topic: str) -> Fault | None:
        """The fault that happens to a message of this topic now; it counts as having happened."""
        with self._lock:
            for fault in self._faults:
                if not fault.spent and topic_matches(fault.topic, topic):
                    fault.fired += 1
                    self.active = any(not f.spent for f in self._faults)
                    return fault
        return None

    def watch(self, broker: MemoryBroker) -> None:
        """Let :meth:`disconnect` reach this broker."""
        self._brokers.add(broker)

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
            self.active = True
        return fault
