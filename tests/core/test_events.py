"""Declaring events and subscriptions: what is refused, and what is derived."""

from dataclasses import dataclass
from uuid import UUID

import pytest

from eventbus import ConfigurationError, Exchange, Queue, Request, event
from eventbus._events import spec_of
from eventbus._registration import Router, specs_for
from eventbus._settlement import Retry
from eventbus._subscribing import Options, build
from eventbus._subscription import Subscription


@event("customers.registered", topic="customers.registered.{country}")
@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerRegistered:
    customer_id: UUID
    country: str


@event("customers.left", version=2)
@dataclass(frozen=True)
class CustomerLeft:
    country: str


@dataclass
class Plain:
    x: int


def build_for(function: object, **options: object) -> Subscription:
    given = Options(**options)  # type: ignore[arg-type]
    return build(given, function, service="shop", retry=Retry(), specs=specs_for(given, function))  # type: ignore[arg-type]


def test_the_type_is_the_name_and_the_version_above_one() -> None:
    assert spec_of(CustomerRegistered).type == "customers.registered"
    assert spec_of(CustomerLeft).type == "customers.left.v2"


def test_a_template_that_names_no_field_is_refused_at_the_class() -> None:
    with pytest.raises(ConfigurationError, match=r"Broken.*town"):

        @event("x", topic="x.{town}")
        @dataclass
        class Broken:
            country: str


def test_a_class_of_no_known_kind_is_refused_at_the_class() -> None:
    with pytest.raises(ConfigurationError, match="dataclass"):

        @event("x")
        class Bare:
            pass


@pytest.mark.parametrize("name", ["", "a b", "x" * 200])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        event(name)


def test_an_undeclared_class_says_how_to_declare_it() -> None:
    with pytest.raises(ConfigurationError, match="@event"):
        spec_of(Plain)


def test_a_subclass_of_an_event_is_not_that_event() -> None:
    class Child(CustomerLeft):
        pass

    with pytest.raises(ConfigurationError):
        spec_of(Child)


def test_the_reply_type_comes_from_the_base_or_the_decorator() -> None:
    @event("q1")
    @dataclass
    class ByBase(Request[int]):
        x: int

    @event("q2", reply=str)
    @dataclass
    class ByDecorator:
        x: int

    assert spec_of(ByBase).reply is int
    assert spec_of(ByDecorator).reply is str


def test_the_queue_is_named_by_group_and_event_and_has_dead_letters() -> None:
    subscription = build_for(lambda e: None, events=(CustomerRegistered,), group="emails")
    assert subscription.queue == Queue(
        name="emails.customers.registered", dead_letter="emails.customers.registered.dead", delivery_limit=20
    )
    assert [b.pattern for b in subscription.bindings] == ["customers.registered.*"]


def test_the_group_defaults_to_the_service() -> None:
    assert build_for(lambda e: None, events=(CustomerLeft,)).group == "shop"


def test_without_group_and_service_a_subscription_is_refused() -> None:
    options = Options(events=(CustomerLeft,))
    with pytest.raises(ConfigurationError, match="has no group"):
        build(options, lambda e: None, service=None, retry=Retry(), specs=specs_for(options, lambda e: None))


def test_a_broadcast_has_a_server_named_queue() -> None:
    queue = build_for(lambda e: None, events=(CustomerLeft,), broadcast=True).queue
    assert (queue.name, queue.exclusive, queue.durable) == ("", True, False)


def test_events_come_from_the_annotation() -> None:
    def both(event: CustomerRegistered | CustomerLeft) -> None: ...

    subscription = build_for(both)
    assert [spec.cls for spec in subscription.events] == [CustomerRegistered, CustomerLeft]
    assert subscription.queue.name == "shop.both"


def test_a_handler_subscribed_to_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="subscribed to nothing"):
        build_for(lambda e: None)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"prefetch": 0},
        {"prefetch": 70000},
        {"timeout": 0},
        {"broadcast": True, "group": "g"},
        {"settle": "never"},
    ],
)
def test_limits_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        build_for(lambda e: None, events=(CustomerLeft,), **options)


def test_prefetch_follows_concurrency() -> None:
    assert build_for(lambda e: None, events=(CustomerLeft,), concurrency=7).prefetch == 17


def test_a_header_match_binds_with_its_arguments() -> None:
    subscription = build_for(lambda e: None, events=(CustomerLeft,), exchange="h", headers={"tenant": "x"}, match="any")
    assert subscription.exchanges == (Exchange(name="h", kind="headers"),)
    assert subscription.bindings[0].arguments == {"tenant": "x", "x-match": "any"}


def test_a_wildcard_cannot_be_bound_to_a_direct_exchange() -> None:
    with pytest.raises(ConfigurationError, match="knows no patterns"):
        build_for(lambda e: None, events=(CustomerRegistered,), exchange=Exchange(name="d", kind="direct"))


def test_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown option colour.*concurrency"):
        Router().subscribe(CustomerLeft, colour="red")  # type: ignore[call-overload]


def test_a_responder_queue_dies_with_its_last_responder() -> None:
    queue = build_for(lambda e: None, events=(CustomerLeft,), responder=True).queue
    assert (queue.auto_delete, queue.durable, queue.dead_letter) == (True, True, None)
