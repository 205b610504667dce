"""The series of one combination of labels, looked up once: publishing and handling are the hot path."""

from __future__ import annotations

import time
from types import TracebackType

from prometheus_client import Counter, Histogram

from eventbus.transport import Ack, DeadLetter, Requeue, RetryIn, Settlement
from eventbus_prometheus._metrics import Metrics

OUTCOMES: dict[type, str] = {Ack: "acked", RetryIn: "retried", Requeue: "requeued", DeadLetter: "dead_lettered"}


class PublishedSeries:
    """Publishes of one event type and outcome."""

    __slots__ = ("_confirm", "_operation", "_sent")

    def __init__(self, metrics: Metrics, kind: str, outcome: str) -> None:
        self._sent = metrics.sent.labels(kind, outcome)
        self._operation = metrics.operation_seconds.labels("publish", outcome)
        self._confirm = metrics.confirm_seconds.labels(kind) if outcome == "confirmed" else None

    def count(self, seconds: float) -> None:
        """One more."""
        self._sent.inc()
        self._operation.observe(seconds)
        if self._confirm is not None:
            self._confirm.observe(seconds)


class HandledSeries:
    """Deliveries of one event type at one subscription."""

    __slots__ = ("_consumed", "_labels", "_metrics", "_seconds", "in_flight")

    def __init__(self, metrics: Metrics, subscription: str, kind: str) -> None:
        self._metrics = metrics
        self._labels = (subscription, kind)
        self.in_flight = metrics.in_flight.labels(subscription)
        # By outcome, made when it first happens: a series for what never happens only costs the scraper.
        self._consumed: dict[str, Counter] = {}
        self._seconds: dict[str, Histogram] = {}

    def ran(self, outcome: str, seconds: float) -> None:
        """A handler ended."""
        series = self._seconds.get(outcome)
        if series is None:
            series = self._seconds[outcome] = self._metrics.process_seconds.labels(*self._labels, outcome)
        series.observe(seconds)

    def settled(self, settlement: Settlement) -> None:
        """A delivery was settled."""
        outcome = OUTCOMES[type(settlement)]
        series = self._consumed.get(outcome)
        if series is None:
            series = self._consumed[outcome] = self._metrics.consumed.labels(*self._labels, outcome)
        series.inc()
        if isinstance(settlement, RetryIn):
            self._metrics.retries.labels(*self._labels).inc()
        elif isinstance(settlement, DeadLetter):
            error = self._metrics.error_types(settlement.error_type or "none")
            self._metrics.dead_lettered.labels(*self._labels, error).inc()


class Timed:
    """Around one call of a handler. A class: contextlib's decorator costs three times as much."""

    __slots__ = ("_began", "_series")

    def __init__(self, series: HandledSeries) -> None:
        self._series = series
        self._began = 0.0

    def __enter__(self) -> None:
        self._series.in_flight.inc()
        self._began = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._began
        self._series.in_flight.dec()
        self._series.ran("returned" if kind is None else "raised", seconds)
