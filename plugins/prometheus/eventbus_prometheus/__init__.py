"""Prometheus metrics for eventbus: ``EventBus(url, middleware=["prometheus"])``, scraped from ``/metrics``."""

from __future__ import annotations

from eventbus_prometheus._endpoint import Endpoint, serve
from eventbus_prometheus._middleware import PrometheusMiddleware

__all__ = ["Endpoint", "PrometheusMiddleware", "serve"]
