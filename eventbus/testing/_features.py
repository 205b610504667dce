"""What a scenario may need of a transport or a bus, so that it is left out openly where that is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

FEATURES = {
    "restart": "the suite's restart_broker() restarts the broker, and durable messages outlive it",
    "disconnect": "the suite's disconnect() cuts all connections",
    "direct-reply": "capability direct_reply",
    "counts-crashes": "capability counts_crashes: arrivals that nobody settled count as attempts, up to a limit",
    "schedules": "capability schedules: a message with a time of delivery waits for it",
    "inspects": "links are InspectsQueues: dead letters can be looked at",
    "priority": "classic queues with max_priority hand out the more urgent messages first",
    "expiry": "messages expire after their time to live",
}


def needs(*features: str) -> Callable[[F], F]:
    """Mark a scenario that needs these features."""
    assert set(features) <= set(FEATURES)

    def mark(scenario: F) -> F:
        scenario.__dict__["eventbus_needs"] = features
        return scenario

    return mark


def only_on(flavour: str) -> Callable[[F], F]:
    """Mark a scenario that concerns the ``sync`` or the ``async`` bus alone."""

    def mark(scenario: F) -> F:
        scenario.__dict__["eventbus_flavours"] = (flavour,)
        return scenario

    return mark


def needs_of(scenario: Callable[..., Any]) -> tuple[str, ...]:
    """The features that it needs."""
    found: tuple[str, ...] = getattr(scenario, "eventbus_needs", ())
    return found


def flavours_of(scenario: Callable[..., Any]) -> tuple[str, ...]:
    """The buses that it concerns."""
    found: tuple[str, ...] = getattr(scenario, "eventbus_flavours", ("sync", "async"))
    return found
