"""Entry points: found is not enabled, and what is missing says what to install."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from eventbus import ConfigurationError, EventBus, UnknownTransport
from eventbus._plugins import load


def points(monkeypatch: pytest.MonkeyPatch, *given: EntryPoint) -> None:
    def entry_points(*, group: str, name: str | None = None) -> list[Any]:
        return [p for p in given if p.group == group and name in (None, p.name)]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


@pytest.mark.parametrize(
    ("url", "extra"),
    [
        ("amqp://user:S3cr3t@host", "rabbitmq"),
        ("amqps://user:S3cr3t@host", "rabbitmq"),
        ("sqlite:///S3cr3t.db", "sqlite"),
        ("memory://S3cr3t", "memory"),
    ],
)
def test_an_unknown_scheme_lists_what_is_installed_and_what_to_install(
    url: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points(monkeypatch, EntryPoint("acme", "acme:Transport", "eventbus.transports"))
    with pytest.raises(UnknownTransport) as caught:
        EventBus(url)
    assert "installed: acme" in str(caught.value)
    assert f'pip install "eventbus[{extra}]"' in str(caught.value)
    assert "S3cr3t" not in str(caught.value)


def test_two_distributions_with_one_name_are_an_error_naming_both(monkeypatch: pytest.MonkeyPatch) -> None:
    points(
        monkeypatch,
        EntryPoint("acme", "acme_one:T", "eventbus.transports"),
        EntryPoint("acme", "acme_two:T", "eventbus.transports"),
    )
    with pytest.raises(ConfigurationError, match="acme_one:T and acme_two:T"):
        load("eventbus.transports", "acme")


def test_a_broken_import_names_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, EntryPoint("acme", "no_such_module_here:T", "eventbus.transports"))
    with pytest.raises(ConfigurationError, match="cannot be imported"):
        load("eventbus.transports", "acme")


@pytest.mark.parametrize("text", ["", "localhost:5672", "//host", "S3cr3t"])
def test_what_is_no_url_is_said_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        EventBus(text)
    assert "S3cr3t" not in str(caught.value)


def test_something_else_than_url_or_transport_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="URL or a transport"):
        EventBus(42)  # type: ignore[arg-type]
