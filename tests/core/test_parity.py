"""The two buses are twins."""

from __future__ import annotations

import inspect

from eventbus import AsyncEventBus, EventBus

PLAIN = {"declare", "event_classes", "health", "include", "message", "reload_tls", "respond", "subscribe", "topology"}


def public(cls: type) -> dict[str, object]:
    return {n: m for n, m in inspect.getmembers(cls, inspect.isfunction) if not n.startswith("_")}


def test_both_buses_have_the_same_methods() -> None:
    assert set(public(EventBus)) == set(public(AsyncEventBus))


def test_methods_take_the_same_parameters() -> None:
    ours, theirs = public(EventBus), public(AsyncEventBus)
    for name in ours:
        assert list(inspect.signature(ours[name]).parameters) == list(inspect.signature(theirs[name]).parameters), name  # type: ignore[arg-type]


def test_what_waits_is_a_coroutine_on_the_async_bus_and_only_that() -> None:
    for name, method in public(AsyncEventBus).items():
        assert inspect.iscoroutinefunction(method) is (name not in PLAIN), name


def test_both_are_built_with_the_same_parameters() -> None:
    assert inspect.signature(EventBus.__init__) == inspect.signature(AsyncEventBus.__init__)
