"""The middleware that counts and measures."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY, CollectorRegistry

from eventbus import ConfigurationError, Delivery, Message, Middleware
from eventbus.transport import LinkStatus, Settlement
from eventbus_prometheus._endpoint import Endpoint
from eventbus_prometheus._labels import OTHER, UNTYPED
from eventbus_prometheus._links import LinkWatch
from eventbus_prometheus._metrics import BUCKETS, metrics_in
from eventbus_prometheus._series import HandledSeries, PublishedSeries, Timed

if TYPE_CHECKING:
    from eventbus import AsyncEventBus, EventBus, PublishError, SpoolHealth

PORT = "EVENTBUS_PROMETHEUS_PORT"
HOST = "EVENTBUS_PROMETHEUS_HOST"

SHARE_OF_STRANGERS, SHARE_OF_TOPICS = 0.5, 0.75


class PrometheusMiddleware(Middleware):
    """Counts messages and measures times. One object serves both buses, and several of them at once.

    Making it does no I/O. All middlewares of one registry share their collectors; the first one's ``max_types``
    and ``buckets`` count.

    :param registry: where the metrics are registered.
    :param max_types: most distinct values of the label ``event_type``; further types count as ``other``. Types
        come from the headers of strangers, and each new one would be a series for ever.
    :param buckets: upper bounds of all histograms, in seconds.
    :param port: serve ``/metrics`` here once a bus connects; 0 takes a free port. Default: the environment's
        ``EVENTBUS_PROMETHEUS_PORT``, else no endpoint. A port that is taken is logged and stops nothing.
    :param host: address of the endpoint. Default: ``EVENTBUS_PROMETHEUS_HOST``, else this machine only.
    :raises ConfigurationError: ``max_types`` or the port is out of range.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry = REGISTRY,
        max_types: int = 200,
        buckets: Sequence[float] = BUCKETS,
        port: int | None = None,
        host: str | None = None,
    ) -> None:
        if max_types < 1:
            raise ConfigurationError("max_types is at least 1")
        self._registry = registry
        self._metrics = metrics_in(registry, max_types, buckets)
        self._port = _port_from_environment() if port is None else _checked(port, "port")
        self._host = host or os.environ.get(HOST) or "127.0.0.1"
        self._endpoint: Endpoint | None = None
        # By label values, which are bounded: looking a series up costs more than adding to it.
        self._published: dict[tuple[str, str], PublishedSeries] = {}
        self._handled: dict[tuple[str, str], HandledSeries] = {}
        self._watches: weakref.WeakKeyDictionary[object, LinkWatch] = weakref.WeakKeyDictionary()

    # -- the endpoint -----------------------------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint, once a bus has connected; None without ``port``."""
        return self._endpoint

    def close(self) -> None:
        """Close the endpoint, if there is one, for good; metrics are still counted. Idempotent."""
        self._port = None
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.close()

    # -- publishing -------------------------------------------------------------------------------------

    def published(self, message: Message, error: PublishError | None, seconds: float) -> None:
        """Count an outcome: confirmed, not_sent, unroutable, rejected or unknown."""
        outcome = "confirmed" if error is None else error.outcome
        # Plain dicts take their topic as type, and topics may hold ids: these must not take all places.
        share = SHARE_OF_TOPICS if message.type == message.topic else 1.0
        kind = self._metrics.types(message.type or UNTYPED, share=share)
        series = self._published.get((kind, outcome))
        if series is None:
            series = self._published[kind, outcome] = PublishedSeries(self._metrics, kind, outcome)
        series.count(seconds)

    # -- consuming --------------------------------------------------------------------------------------

    def handling(self, delivery: Delivery) -> AbstractContextManager[Any]:
        """Time the handler, and hold its place among those in flight."""
        return Timed(self._handled_series(delivery))

    def settled(self, delivery: Delivery, settlement: Settlement, seconds: float) -> None:
        """Count a settlement: acked, retried, requeued or dead_lettered."""
        self._handled_series(delivery).settled(settlement)

    def overdue(self, subscription: str, timeout: float) -> None:
        """Count a handler that runs past its timeout."""
        self._metrics.overdue.labels(subscription).inc()

    def _handled_series(self, delivery: Delivery) -> HandledSeries:
        key = (delivery.subscription.name, self._type(delivery))
        series = self._handled.get(key)
        if series is None:
            series = self._handled[key] = HandledSeries(self._metrics, *key)
        return series

    def _type(self, delivery: Delivery) -> str:
        """The delivery's type as a label: on a subscription to event classes, only these are names."""
        declared = delivery.subscription.events
        kind = delivery.message.type
        if not declared:
            return self._metrics.types(kind or UNTYPED, share=SHARE_OF_STRANGERS)
        if not kind:
            return self._metrics.types(declared[0].type if len(declared) == 1 else UNTYPED)
        if any(kind == spec.type for spec in declared):
            return self._metrics.types(kind)
        return OTHER

    # -- connections ------------------------------------------------------------------------------------

    def link_changed(self, bus: EventBus | AsyncEventBus, status: LinkStatus) -> None:
        """Show the states of a bus's connection and consumers."""
        self._watch(bus)(status)
        self._open_endpoint()

    def spool_changed(self, bus: EventBus | AsyncEventBus, health: SpoolHealth) -> None:
        """Show the state of a bus's spool."""
        self._watch(bus).spool(health)

    def _watch(self, bus: EventBus | AsyncEventBus) -> LinkWatch:
        watch = self._watches.get(bus)
        if watch is None:
            watch = self._watches[bus] = LinkWatch(self._metrics)
        return watch

    def _open_endpoint(self) -> None:
        if self._port is not None and self._endpoint is None:
            try:
                self._endpoint = self._metrics.endpoint(self._registry, self._host, self._port)
            except OSError:
                self._port = None  # said once, in the log, by the bus; metrics must not stop the program
                raise


def _port_from_environment() -> int | None:
    text = os.environ.get(PORT, "").strip()
    if not text:
        return None
    if not text.isdecimal():
        raise ConfigurationError(f"{PORT} is a port number, not {text[:20]!r}")
    return _checked(int(text), PORT)


def _checked(port: int, name: str) -> int:
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"{name} is a port from 0 to 65535, not {port}")
    return port
