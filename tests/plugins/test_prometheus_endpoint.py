"""The /metrics endpoint of the Prometheus middleware."""

from __future__ import annotations

import logging
import urllib.request
import uuid
from dataclasses import dataclass

import pytest
from eventbus_prometheus import PrometheusMiddleware, serve
from prometheus_client import CollectorRegistry

from eventbus import ConfigurationError, EventBus, event


@event("customers.registered")
@dataclass(frozen=True, kw_only=True)
class Registered:
    name: str


SENT_ONE = 'messaging_client_sent_messages_total{event_type="customers.registered",outcome="confirmed"} 1.0'


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


def scrape(url: str) -> list[str]:
    with urllib.request.urlopen(url, timeout=5) as response:
        text: str = response.read().decode()
    return text.splitlines()


def test_with_a_port_it_serves_metrics_once_a_bus_connects(url: str) -> None:
    middleware = PrometheusMiddleware(registry=CollectorRegistry(), port=0)
    bus = EventBus(url, service="signup", middleware=[middleware])
    assert middleware.endpoint is None  # building does no I/O
    with bus:
        bus.publish(Registered(name="Ada"))
        assert middleware.endpoint is not None
        endpoint = middleware.endpoint
        assert SENT_ONE in scrape(endpoint.url)
    middleware.close()
    middleware.close()
    assert endpoint.closed
    with pytest.raises(OSError, match="refused"):
        scrape(endpoint.url)


def test_the_port_may_come_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTBUS_PROMETHEUS_PORT", "0")
    registry = CollectorRegistry()
    both = [PrometheusMiddleware(registry=registry) for _ in range(2)]
    with EventBus(url, middleware=both[:1]), EventBus(url, middleware=both[1:]):
        endpoints = [middleware.endpoint for middleware in both]
        assert endpoints[0] is not None
        assert endpoints[0] is endpoints[1]  # one port, one endpoint, however many buses name it
    both[0].close()


@pytest.mark.parametrize("text", ["metrics", "-1", "70000"])
def test_an_impossible_port_in_the_environment_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTBUS_PROMETHEUS_PORT", text)
    with pytest.raises(ConfigurationError, match="EVENTBUS_PROMETHEUS_PORT"):
        PrometheusMiddleware(registry=CollectorRegistry())


def test_a_taken_port_is_logged_and_stops_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    taken = serve(0, registry=CollectorRegistry())
    middleware = PrometheusMiddleware(registry=CollectorRegistry(), port=taken.port)
    with caplog.at_level(logging.ERROR), EventBus(url, service="signup", middleware=[middleware]) as bus:
        bus.publish(Registered(name="Ada"))
    assert len([r for r in caplog.records if r.exc_info and isinstance(r.exc_info[1], OSError)]) == 1
    taken.close()
