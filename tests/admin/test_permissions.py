"""Least privilege: what is derived from the code is enough for the code, and a real broker refuses the rest."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pika
import pytest
from eventbus_rabbitmq import RabbitMQOptions
from eventbus_rabbitmq_admin._definitions import User, definitions
from eventbus_rabbitmq_admin._layout import declarer_of, layout_of, options_by_service, topology_of
from eventbus_rabbitmq_admin._permissions import Permissions, permissions_of, topic_regex

from eventbus import (
    AsyncEventBus,
    EventBus,
    LoginRefused,
    PublishError,
    Reject,
    RetryLater,
    Secret,
    Topology,
)
from eventbus._routing import topic_matches
from eventbus.testing import eventually
from tests.admin import services
from tests.admin.conftest import Site
from tests.admin.services import Quote, Registered

PASSWORD = "pa55-w0rd"
STRICT = RabbitMQOptions(declare="passive", queue_exchange="eventbus.queues")


def whole() -> Topology:
    return services.signup().topology().merged(services.emails().topology()).merged(services.pricing().topology())


def derived(options: RabbitMQOptions) -> dict[str, Permissions]:
    topology = whole()
    return {access.service: permissions_of(access, topology, options) for access in topology.services}


@pytest.mark.parametrize(
    "pattern", ["a.*.b", "a.#", "#", "a.#.b", "*", "a.b", "a.*", "#.z", "a-b+c.*", "#.#", "a.#.#.b", "#.b.#"]
)
@pytest.mark.parametrize("topic", ["a.b", "a.x.b", "a", "a.x.y.b", "b", "a.b.z", "a-b+c.d", "axb", "a.", "z", "x.b.y"])
def test_a_pattern_and_its_regular_expression_match_the_same_topics(pattern: str, topic: str) -> None:
    matched = re.search(rf"^({topic_regex(pattern)})\Z", topic) is not None
    assert matched is topic_matches(pattern, topic)


def test_patterns_are_anchored_and_escaped() -> None:
    permissions = derived(STRICT)["emails"]
    for pattern in (permissions.configure, permissions.write, permissions.read):
        assert pattern.startswith("^(")
        assert pattern.endswith(")\\z")
    assert re.search(permissions.read.replace("\\z", "\\Z"), "emails.shop.registered")
    for other in ("emailsxshopxregistered", "emails.shop.registered2", "x.emails.shop.registered", "emails.shop"):
        assert not re.search(permissions.read.replace("\\z", "\\Z"), other)


def test_who_only_publishes_configures_no_named_thing_and_reads_nobody() -> None:
    signup = derived(STRICT)["signup"]
    assert "signup" not in signup.configure
    assert "emails" not in signup.read
    topics = {topic.exchange: topic for topic in signup.topics}
    assert topics["eventbus.events"].write == r"^(shop\.registered\.[^.]*)\z"
    assert topics["eventbus.events"].read == "^$"


def test_who_declares_its_topology_itself_may_do_that() -> None:
    emails = derived(RabbitMQOptions())["emails"]
    for name in ("emails.shop.registered", "emails.shop.registered.dead", "eventbus.events"):
        assert re.search(emails.configure.replace("\\z", "\\Z"), name), name
    assert not re.search(emails.configure.replace("\\z", "\\Z"), "signup.anything")


def test_each_service_gets_what_its_own_url_asks_for() -> None:
    buses = {"a": services.emails("amqp://localhost/?declare=passive"), "b": services.signup("amqp://localhost/")}
    found = options_by_service(buses)
    topology, _ = topology_of(buses)
    emails, signup = (permissions_of(access, topology, found[access.service]) for access in topology.services)
    assert not re.search(emails.configure.replace("\\z", "\\Z"), "eventbus.events")
    assert re.search(signup.configure.replace("\\z", "\\Z"), "eventbus.events")


def prepared(site: Site, options: RabbitMQOptions, query: str) -> Callable[[str], str]:
    """Users with their derived permissions, on the real broker; gives each one's URL."""
    topology = whole()
    there_already = topology if options.declare == "passive" else Topology()
    layout = layout_of(there_already, declarer_of(options))
    users = [User(name=name, password=Secret(PASSWORD)) for name in ("signup", "emails", "pricing")]
    document = definitions(
        vhost=site.vhost,
        layout=layout,
        users=users,
        permissions=[permissions_of(access, topology, options) for access in topology.services],
    )
    site.management.post("definitions", body=document)
    return lambda service: f"{site.url(service, PASSWORD)}{'?' + query if query else ''}"


@pytest.mark.parametrize(
    ("options", "query"),
    [(STRICT, services.STRICT), (RabbitMQOptions(), ""), (RabbitMQOptions(declare="passive"), "declare=passive")],
    ids=["strict", "create", "passive"],
)
def test_the_services_work_with_their_permissions(site: Site, options: RabbitMQOptions, query: str) -> None:
    url = prepared(site, options, query)
    attempts: list[int] = []
    emails = EventBus(url("emails"), service="emails")

    @emails.subscribe(Registered)
    def welcome(event: Registered, delivery: Any) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            raise RetryLater(0.1)
        if delivery.attempt == 2:
            raise RuntimeError("again")
        raise Reject("to the dead letters")

    pricing = services.pricing(url("pricing"))
    with emails, pricing, services.signup(url("signup")) as signup:
        signup.publish(Registered("se"), mandatory=True)
        assert signup.request(Quote("tea"), timeout=10) == 42
        eventually(lambda: attempts == [1, 2, 3], timeout=20)
        dead = "emails.shop.registered.dead"
        eventually(lambda: site.management.holds_messages(site.vhost, dead), timeout=20)


@pytest.mark.asyncio
async def test_the_async_bus_works_with_them_too(site: Site) -> None:
    url = prepared(site, STRICT, services.STRICT)
    pricing = AsyncEventBus(url("pricing"), service="pricing")

    @pricing.respond(Quote)
    async def quote(request: Quote) -> int:
        return 7

    signup = AsyncEventBus(url("signup"), service="signup", publishes=[Registered], requests=[Quote])
    async with pricing, signup:
        await signup.publish(Registered("se"), mandatory=True)
        assert await signup.request(Quote("tea"), timeout=10) == 7


@pytest.fixture
def strict(site: Site) -> Callable[[str], str]:
    return prepared(site, STRICT, services.STRICT)


@pytest.mark.parametrize(
    ("service", "exchange", "topic"),
    [
        ("signup", "eventbus.events", "shop.cancelled.se"),
        ("signup", "eventbus.events", "shop.registered.se.more"),
        ("signup", "eventbus.requests", "shop.other"),
        ("signup", "eventbus.queues", "emails.shop.registered"),
        ("signup", "amq.topic", "shop.registered.se"),
        ("emails", "eventbus.events", "shop.registered.se"),
        ("emails", "eventbus.queues", "pricing.shop.quote"),
        ("pricing", "eventbus.queues", "emails.shop.registered"),
        ("pricing", "eventbus.requests", "shop.quote"),
    ],
)
def test_other_exchanges_topics_and_queues_are_refused_for_writing(
    strict: Callable[[str], str], service: str, exchange: str, topic: str
) -> None:
    with (
        EventBus(strict(service), service=service, timeout=5) as bus,
        pytest.raises(PublishError, match="permission"),
    ):
        bus.publish({"x": 1}, topic=topic, exchange=exchange)


def raw(url: str, work: Callable[[Any], Any]) -> int:
    """The code by which the broker closes the channel of a plain client; 0 when it does not."""
    connection = pika.BlockingConnection(pika.URLParameters(url.partition("?")[0]))
    try:
        work(connection.channel())
    except pika.exceptions.ChannelClosedByBroker as closed:
        return int(closed.reply_code)
    finally:
        if connection.is_open:
            connection.close()
    return 0


@pytest.mark.parametrize(
    ("service", "work"),
    [
        ("signup", lambda c: c.basic_get("emails.shop.registered")),
        ("emails", lambda c: c.basic_get("emails.shop.registered.dead")),
        ("emails", lambda c: c.queue_delete("emails.shop.registered")),
        ("emails", lambda c: c.queue_purge("emails.shop.registered.dead")),
        ("emails", lambda c: c.queue_declare("another", durable=True)),
        ("emails", lambda c: c.exchange_declare("another", "topic", durable=True)),
        ("emails", lambda c: c.exchange_delete("eventbus.events")),
        ("emails", lambda c: c.queue_bind("emails.shop.registered", "eventbus.events", "#")),
        ("signup", lambda c: c.queue_bind(c.queue_declare("", exclusive=True).method.queue, "eventbus.queues", "#")),
        ("signup", lambda c: c.queue_bind(c.queue_declare("", exclusive=True).method.queue, "eventbus.events", "#")),
        ("pricing", lambda c: c.queue_declare("pricing.other", auto_delete=True, durable=True)),
    ],
)
def test_a_plain_client_with_the_same_user_is_refused_all_else(
    strict: Callable[[str], str], service: str, work: Callable[[Any], Any]
) -> None:
    assert raw(strict(service), work) == 403


@pytest.mark.parametrize("service", ["signup", "emails", "pricing"])
def test_nobody_writes_to_queues_by_way_of_the_default_exchange(strict: Callable[[str], str], service: str) -> None:
    def work(channel: Any) -> None:
        channel.confirm_delivery()
        channel.basic_publish("", "emails.shop.registered", b"{}")

    assert raw(strict(service), work) == 403


def test_another_virtual_host_is_refused(strict: Callable[[str], str], site: Site) -> None:
    bus = EventBus(strict("emails").replace(f"/{site.vhost}", "/%2F"), service="emails")
    try:
        with pytest.raises(LoginRefused, match="may not use it"):
            bus.start(timeout=10)
    finally:
        bus.stop(1)


def test_what_the_service_may_do_is_not_refused_to_a_plain_client(strict: Callable[[str], str]) -> None:
    """The refusals above are no accident of the way they are asked."""
    done = threading.Event()

    def work(channel: Any) -> None:
        channel.confirm_delivery()
        channel.basic_publish("eventbus.events", "shop.registered.se", b"{}")
        done.set()

    assert raw(strict("signup"), work) == 0
    assert raw(strict("emails"), lambda channel: channel.basic_get("emails.shop.registered")) == 0
    assert done.is_set()


@pytest.fixture
def scheduling(site: Site) -> Callable[[str], str]:
    """A service that publishes with a delay, and one that does not."""
    buses = (
        EventBus(services.url(), service="reminders", schedules=[Registered]),
        services.emails(),
        services.signup(),
    )
    topology = Topology()
    for bus in buses:
        topology = topology.merged(bus.topology())
    document = definitions(
        vhost=site.vhost,
        layout=layout_of(topology, declarer_of(STRICT)),
        users=[User(name=access.service, password=Secret(PASSWORD)) for access in topology.services],
        permissions=[permissions_of(access, topology, STRICT) for access in topology.services],
    )
    site.management.post("definitions", body=document)
    return lambda service: f"{site.url(service, PASSWORD)}?{services.STRICT}"


def test_a_service_that_schedules_may_delay_its_own_events(scheduling: Callable[[str], str]) -> None:
    seen: list[str] = []
    emails = EventBus(scheduling("emails"), service="emails")
    emails.subscribe(Registered)(lambda event: seen.append(event.country))
    with emails, EventBus(scheduling("reminders"), service="reminders", schedules=[Registered]) as reminders:
        reminders.publish(Registered("se"), delay=0.1)
        reminders.publish(Registered("no"), delay=0.7)  # the rest of it waits at the queue of the group
        eventually(lambda: seen == ["se", "no"], timeout=20)


def test_a_delay_is_no_way_around_the_permissions(scheduling: Callable[[str], str]) -> None:
    with EventBus(scheduling("reminders"), service="reminders", timeout=5) as reminders:
        reminders.publish({"x": 1}, topic="shop.registered.se", delay=0.1)
        with pytest.raises(PublishError, match="permission"):
            reminders.publish({"x": 1}, topic="shop.cancelled.se", delay=0.1)
        with pytest.raises(PublishError, match="permission"):
            reminders.publish({"x": 1}, topic="shop.quote", exchange="eventbus.requests", delay=0.1)
    with (
        EventBus(scheduling("signup"), service="signup", timeout=5) as signup,
        pytest.raises(PublishError, match="permission"),
    ):
        signup.publish(Registered("se"), delay=0.1)
    place = "reminders.delay.eventbus.events.100"
    assert raw(scheduling("signup"), lambda channel: channel.basic_get(place)) == 403
    assert raw(scheduling("emails"), lambda channel: channel.queue_purge(place)) == 403
