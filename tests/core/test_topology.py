"""Topology as a value: who uses what, several services together, and conflicts that name both sides."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest

from eventbus import (
    AsyncEventBus,
    ConfigurationError,
    EventBus,
    Exchange,
    Policy,
    Queue,
    Request,
    event,
)
from eventbus._topology import Write


@event("topology.registered", topic="topology.registered.{country}")
@dataclass(frozen=True)
class Registered:
    country: str


@event("topology.audited", exchange="audit", kind="fanout")
@dataclass(frozen=True)
class Audited:
    what: str


@event("topology.quote")
@dataclass(frozen=True)
class Quote(Request[int]):
    product: str


def signup() -> EventBus:
    return EventBus("memory://", service="signup", publishes=[Registered, Audited], requests=[Quote])


def emails() -> EventBus:
    bus = EventBus("memory://", service="emails", policies=[Policy(name="p", pattern="^emails", definition={"x": 1})])
    bus.subscribe(Registered)(lambda event: None)
    return bus


def pricing() -> AsyncEventBus:
    bus = AsyncEventBus("memory://", service="pricing")

    @bus.respond(Quote)
    async def quote(request: Quote) -> int:
        return 1

    return bus


def test_what_a_service_writes_is_known_from_what_it_publishes_and_asks() -> None:
    (access,) = signup().topology().services
    assert access.service == "signup"
    assert access.writes == (
        Write(exchange="eventbus.events", pattern="topology.registered.*", what="topology.registered"),
        Write(exchange="audit", pattern="topology.audited", what="topology.audited"),
        Write(exchange="eventbus.requests", pattern="topology.quote", what="topology.quote"),
    )
    assert (access.asks, access.answers, access.queues) == (True, False, ())
    assert {exchange.name: exchange.kind for exchange in signup().topology().exchanges} == {
        "eventbus.events": "topic",
        "audit": "fanout",
        "eventbus.requests": "topic",
    }


def test_what_it_reads_is_known_from_its_subscriptions() -> None:
    (access,) = emails().topology().services
    assert [queue.name for queue in access.queues] == ["emails.topology.registered"]
    assert [binding.pattern for binding in access.bindings] == ["topology.registered.*"]
    (answering,) = pricing().topology().services
    assert (answering.answers, answering.asks) == (True, False)


def test_several_services_make_one_topology() -> None:
    whole = signup().topology().merged(emails().topology()).merged(pricing().topology())
    assert [access.service for access in whole.services] == ["signup", "emails", "pricing"]
    assert [queue.name for queue in whole.queues] == ["emails.topology.registered", "pricing.topology.quote"]
    assert [policy.name for policy in whole.policies] == ["p"]
    assert whole.merged(emails().topology()) == whole


def test_two_buses_of_one_service_are_one_user() -> None:
    second = EventBus("memory://", service="emails", publishes=[Registered])
    (access,) = emails().topology().merged(second.topology()).services
    assert [queue.name for queue in access.queues] == ["emails.topology.registered"]
    assert [write.what for write in access.writes] == ["topology.registered"]


def test_a_conflict_names_both_services_and_what_differs() -> None:
    other = EventBus("memory://", service="auditor")
    other.subscribe(exchange=Exchange(name="audit", kind="topic"), pattern="#", name="all")(lambda event: None)
    with pytest.raises(ConfigurationError) as caught:
        signup().topology().merged(other.topology())
    for word in ("'audit'", "signup", "auditor", "kind='fanout'", "kind='topic'"):
        assert word in str(caught.value)


def test_queues_and_policies_conflict_too() -> None:
    other = EventBus("memory://", service="other", policies=[Policy(name="p", pattern="^other", definition={})])
    other.subscribe(Registered, queue=Queue(name="emails.topology.registered", max_length=5))(lambda event: None)
    with pytest.raises(ConfigurationError, match="max_length"):
        emails().topology().merged(other.topology())


def test_a_bus_knows_its_event_classes() -> None:
    assert signup().event_classes() == {
        "topology.registered": Registered,
        "topology.audited": Audited,
        "topology.quote": Quote,
    }
    assert emails().event_classes() == {"topology.registered": Registered}


def test_publishing_what_was_not_declared_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus("memory://undeclared", service="s", publishes=[Registered])
    with caplog.at_level(logging.WARNING, "eventbus"), bus:
        bus.publish(Registered("se"))
        assert "permissions" not in caplog.text
        bus.publish(Audited("x"))
        bus.publish(Audited("y"))
    assert caplog.text.count("Audited is not among what this bus publishes") == 1


def test_without_a_declaration_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "eventbus"), EventBus("memory://undeclared2", service="s") as bus:
        bus.publish(Audited("x"))
    assert "permissions" not in caplog.text
