"""State of connections and consumers as gauges, for each bus its own."""

from __future__ import annotations

import threading

from eventbus import SpoolHealth
from eventbus.transport import LinkStatus, Phase
from eventbus_prometheus._metrics import Metrics


class LinkWatch:
    """Turns the statuses of one bus into gauges and counters.

    A status counts from the start of its link, a Prometheus counter from the start of the process, so only
    differences are added.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._bus: str | None = None
        self._reconnects = 0
        self._stale = 0
        self._consumers: set[str] = set()
        self._spooled: dict[str, int] = {}

    def __call__(self, status: LinkStatus) -> None:
        """Take a status."""
        metrics = self._metrics
        with self._lock:
            if self._bus is None:
                self._bus = metrics.next_link()
            bus = self._bus
            self._count(status)
            if status.phase is Phase.CLOSED:
                self._forget(bus)
                return
            metrics.connection_up.labels(bus).set(status.phase is Phase.READY)
            metrics.connection_blocked.labels(bus).set(status.blocked is not None)
            metrics.overlong.labels(bus).set(status.overlong)
            if status.certificate_expires is not None:
                metrics.certificate_expires.labels(bus).set(status.certificate_expires)
            for name in self._consumers.difference(status.consumers):
                metrics.consumer_up.remove(bus, name)
            self._consumers = set(status.consumers)
            for name, consumer in status.consumers.items():
                up = status.phase is Phase.READY and consumer.phase is Phase.READY
                metrics.consumer_up.labels(bus, name).set(up)

    def spool(self, health: SpoolHealth) -> None:
        """Take the state of the spool."""
        metrics = self._metrics
        with self._lock:
            if self._bus is None:
                self._bus = metrics.next_link()
            metrics.spool_messages.labels(self._bus).set(health.messages)
            metrics.spool_oldest.labels(self._bus).set(health.oldest or 0.0)
            metrics.spool_keeping.labels(self._bus).set(health.state != "idle")
            for name, counter in metrics.spool.items():
                now = getattr(health, name)
                counter.inc(max(0, now - self._spooled.get(name, 0)))
                self._spooled[name] = now

    def _count(self, status: LinkStatus) -> None:
        metrics = self._metrics
        if status.reconnects < self._reconnects or status.stale_settlements < self._stale:
            self._reconnects = self._stale = 0  # the bus was stopped and started: a new link counts anew
        metrics.reconnects.inc(status.reconnects - self._reconnects)
        metrics.stale.inc(status.stale_settlements - self._stale)
        self._reconnects, self._stale = status.reconnects, status.stale_settlements

    def _forget(self, bus: str) -> None:
        # A bus that was stopped is not down: its gauges go, so that no alarm rings for it.
        metrics = self._metrics
        own = (
            metrics.connection_up,
            metrics.connection_blocked,
            metrics.overlong,
            metrics.certificate_expires,
            metrics.spool_messages,
            metrics.spool_oldest,
            metrics.spool_keeping,
        )
        for gauge in own:
            try:
                gauge.remove(bus)
            except KeyError:  # it was never connected, or has no spool
                pass
        for name in self._consumers:
            metrics.consumer_up.remove(bus, name)
        self._consumers = set()
        self._spooled = {}
        self._reconnects = self._stale = 0
