"""Partitions within least privilege, and in what is exported and compared."""

from __future__ import annotations

from typing import Any

import pytest
from eventbus_rabbitmq import RabbitMQOptions
from eventbus_rabbitmq_admin._definitions import User, definitions
from eventbus_rabbitmq_admin._layout import declarer_of, layout_of
from eventbus_rabbitmq_admin._permissions import permissions_of

from eventbus import EventBus, Secret, Topology
from eventbus.testing import eventually
from tests.admin import services
from tests.admin.conftest import Site
from tests.admin.services import Registered
from tests.admin.test_permissions import PASSWORD, STRICT


def partitioned(url: str, seen: list[Any]) -> EventBus:
    bus = EventBus(url, service="emails")

    @bus.subscribe(Registered, partitions=3)
    def welcome(event: Registered, delivery: Any) -> None:
        seen.append((delivery.key, delivery.queue))

    return bus


@pytest.mark.parametrize(
    ("options", "query"),
    [(STRICT, services.STRICT), (RabbitMQOptions(), ""), (RabbitMQOptions(declare="passive"), "declare=passive")],
    ids=["strict", "create", "passive"],
)
def test_a_partitioned_service_works_with_its_permissions(site: Site, options: RabbitMQOptions, query: str) -> None:
    buses = (partitioned("amqp://localhost/", []), services.signup("amqp://localhost/"))
    topology = Topology()
    for bus in buses:
        topology = topology.merged(bus.topology())
    there_already = topology if options.declare == "passive" else Topology()
    document = definitions(
        vhost=site.vhost,
        layout=layout_of(there_already, declarer_of(options)),
        users=[User(name=access.service, password=Secret(PASSWORD)) for access in topology.services],
        permissions=[permissions_of(access, topology, options) for access in topology.services],
    )
    site.management.post("definitions", body=document)
    end = f"?{query}" if query else ""
    seen: list[Any] = []
    with (
        partitioned(site.url("emails", PASSWORD) + end, seen),
        services.signup(site.url("signup", PASSWORD) + end) as signup,
    ):
        for number in range(20):
            signup.publish(Registered("se"), key=f"customer-{number}", mandatory=True)
        eventually(lambda: len(seen) == 20)
    assert {queue for _, queue in seen} == {f"emails.shop.registered.{number}" for number in range(3)}


def test_the_queues_of_all_partitions_are_part_of_the_layout() -> None:
    layout = layout_of(partitioned("amqp://localhost/", []).topology(), declarer_of(RabbitMQOptions()))
    name = "emails.shop.registered"
    assert {queue.name for queue in layout.queues} == {f"{name}.0", f"{name}.1", f"{name}.2", f"{name}.dead"}
    assert all(queue.arguments.get("x-single-active-consumer") for queue in layout.queues if queue.name[-1].isdigit())
    exchanges = {exchange.name: exchange for exchange in layout.exchanges}
    assert exchanges[f"{name}.partitions"].arguments == {"alternate-exchange": f"{name}.partitions.3"}
    into = [b for b in layout.bindings if b.destination == f"{name}.partitions"]
    assert [(b.source, b.routing_key) for b in into] == [("eventbus.events", "shop.registered.*")]
