"""Ordering keys on the wire: what other clients need to write to take part."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pika
import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import Delivery, EventBus, Exchange, event
from eventbus.testing import eventually


@event("keys.moved", exchange=Exchange(name="keys.events"))
@dataclass(frozen=True)
class Moved:
    number: int = 0


Seen = list[tuple[int, str | None, str]]


@pytest.fixture
def seen(broker: LocalBroker) -> Iterator[Seen]:
    bus, seen = EventBus(broker.url, service="keys"), []

    @bus.subscribe(Moved, partitions=4)
    def handle(moved: Moved, delivery: Delivery) -> None:
        seen.append((moved.number, delivery.key, delivery.queue))

    with bus:
        yield seen


@pytest.fixture
def channel(broker: LocalBroker, seen: Seen) -> Iterator[Any]:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


def publish(channel: Any, number: int, headers: dict[str, Any]) -> None:
    properties = pika.BasicProperties(type="keys.moved", headers=headers)
    channel.basic_publish("keys.events", "keys.moved", json.dumps({"number": number}), properties, mandatory=True)


def test_another_client_s_key_and_slot_find_the_partition(channel: Any, seen: Seen) -> None:
    for number in range(20):
        key = f"customer-{number % 5}"
        slot = zlib.crc32(key.encode()) % 64
        publish(channel, number, {"eventbus-key": key, f"eventbus-slot-{slot}": True})
    eventually(lambda: len(seen) == 20)
    for number, key, queue in seen:
        assert key == f"customer-{number % 5}"
        assert queue == f"keys.keys.moved.{zlib.crc32(key.encode()) % 64 % 4}"
    for customer in range(5):
        assert [number for number, key, _ in seen if key == f"customer-{customer}"] == list(range(customer, 20, 5))


def test_without_a_slot_messages_go_to_the_first_partition_and_a_key_is_kept_in_order_there(
    channel: Any, seen: Seen
) -> None:
    for number in range(10):
        publish(channel, number, {"eventbus-key": "k"} if number % 2 else {})
    eventually(lambda: len(seen) == 10)
    assert {queue for _, _, queue in seen} == {"keys.keys.moved.0"}
    assert [number for number, key, _ in seen if key == "k"] == [1, 3, 5, 7, 9]
