"""The collectors, one set for each registry: two middlewares, or two buses, add to the same numbers."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from eventbus_prometheus._endpoint import Endpoint, serve
from eventbus_prometheus._labels import Bounded

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MAX_ERROR_TYPES = 50


class Metrics:
    """Collectors in ``registry``. Names follow OpenTelemetry's as Prometheus writes them, where it has one."""

    def __init__(self, registry: CollectorRegistry, max_types: int, buckets: Sequence[float]) -> None:
        self.types = Bounded(max_types)
        self.error_types = Bounded(MAX_ERROR_TYPES)
        self._endpoints: dict[tuple[str, int], Endpoint] = {}
        self._lock = threading.Lock()
        self._links = 0

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=buckets)

        self.sent = counter(
            "messaging_client_sent_messages", "Publishes, requests and replies by outcome", "event_type", "outcome"
        )
        self.operation_seconds = histogram(
            "messaging_client_operation_duration_seconds", "From a publish to its outcome", "operation", "outcome"
        )
        self.confirm_seconds = histogram(
            "eventbus_confirm_latency_seconds", "From a publish to the broker's confirm", "event_type"
        )
        self.consumed = counter(
            "messaging_client_consumed_messages",
            "Deliveries by settlement",
            "subscription", "event_type", "outcome",
        )  # fmt: skip
        self.process_seconds = histogram(
            "messaging_process_duration_seconds",
            "Time in dependencies and handler",
            "subscription", "event_type", "outcome",
        )  # fmt: skip
        self.in_flight = gauge("eventbus_handlers_in_flight", "Handlers at work now", "subscription")
        self.overdue = counter(
            "eventbus_handlers_overdue", "Handlers in threads that ran past their timeout", "subscription"
        )
        self.retries = counter("eventbus_retries", "Deliveries that will be tried again", "subscription", "event_type")
        self.dead_lettered = counter(
            "eventbus_dead_lettered", "Deliveries given up", "subscription", "event_type", "error_type"
        )
        self.connection_up = gauge("eventbus_connection_up", "1 while connected to the broker", "bus")
        self.connection_blocked = gauge("eventbus_connection_blocked", "1 while the broker takes no publishes", "bus")
        self.overlong = gauge(
            "eventbus_consumers_overlong", "Consumers with a delivery that the broker will soon take back", "bus"
        )
        self.certificate_expires = gauge(
            "eventbus_certificate_expires_seconds", "When our TLS certificate ends, in Unix seconds", "bus"
        )
        self.spool_messages = gauge("eventbus_spool_messages", "Events in the spool", "bus")
        self.spool_oldest = gauge("eventbus_spool_oldest_seconds", "Age of the oldest event in the spool", "bus")
        self.spool_keeping = gauge("eventbus_spool_keeping", "1 while new events go into the spool", "bus")
        self.spool = {
            "kept": counter("eventbus_spool_kept", "Events put into the spool"),
            "sent": counter("eventbus_spool_sent", "Events sent from the spool"),
            "expired": counter("eventbus_spool_expired", "Events in the spool that were too old, and dropped"),
            "dead_lettered": counter(
                "eventbus_spool_dead_lettered", "Events in the spool that the broker did not take"
            ),
        }
        self.reconnects = counter("eventbus_reconnects", "Connections made again after a loss")
        self.stale = counter("eventbus_settlements_dropped", "Settlements of deliveries whose connection was lost")
        self.consumer_up = gauge(
            "eventbus_consumer_up", "1 while the broker has confirmed the consumer", "bus", "subscription"
        )

    def next_link(self) -> str:
        """A label for one more bus: they are numbered in the order in which they first connect."""
        with self._lock:
            self._links += 1
            return str(self._links)

    def endpoint(self, registry: CollectorRegistry, host: str, port: int) -> Endpoint:
        """The endpoint on this address, opened if it is not yet: several middlewares may name the same one."""
        with self._lock:
            endpoint = self._endpoints.get((host, port))
            if endpoint is None or endpoint.closed:
                endpoint = self._endpoints[host, port] = serve(port, host, registry=registry)
            return endpoint


_lock = threading.Lock()
_made: weakref.WeakKeyDictionary[CollectorRegistry, Metrics] = weakref.WeakKeyDictionary()


def metrics_in(registry: CollectorRegistry, max_types: int, buckets: Sequence[float]) -> Metrics:
    """The collectors of ``registry``, made once: a registry refuses a second metric of one name."""
    with _lock:
        metrics = _made.get(registry)
        if metrics is None:
            metrics = _made[registry] = Metrics(registry, max_types, buckets)
        return metrics
