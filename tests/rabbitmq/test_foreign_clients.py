"""Other programs, in any language, on the same broker: played by pika alone, and by the cloudevents package."""

import json
import queue
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pika
import pytest
from cloudevents.core.bindings.rabbitmq import RabbitMQMessage, from_rabbitmq_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import Delivery, EventBus, Exchange, Request, event


@event("foreign.customer", topic="foreign.customer.{country}", exchange=Exchange(name="foreign.events"))
@dataclass(frozen=True)
class Customer:
    name: str
    country: str


@event("foreign.sum", exchange=Exchange(name="foreign.requests"))
@dataclass(frozen=True)
class Sum(Request[int]):
    a: int
    b: int


@pytest.fixture
def foreign(broker: LocalBroker) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    yield connection.channel()
    connection.close()


@pytest.fixture
def bus(broker: LocalBroker) -> Iterator[EventBus]:
    bus = EventBus(broker.url, service=f"native-{uuid.uuid4().hex[:8]}")
    yield bus
    bus.stop(5)


def get(channel: Any, name: str, timeout: float = 10.0) -> tuple[Any, Any, bytes]:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        method, properties, body = channel.basic_get(name, auto_ack=True)
        if method is not None:
            return method, properties, body
        channel.connection.process_data_events(0.02)
    raise AssertionError(f"nothing came to {name}")


def test_a_foreign_client_publishes_plain_json_to_a_subscription(bus: EventBus, foreign: Any) -> None:
    got: queue.Queue[tuple[Customer, Delivery]] = queue.Queue()

    @bus.subscribe(Customer)
    def handle(event: Customer, delivery: Delivery) -> None:
        got.put((event, delivery))

    bus.start()
    foreign.basic_publish("foreign.events", "foreign.customer.se", b'{"name": "Ada", "country": "se", "more": 1}')
    customer, delivery = got.get(timeout=10)
    assert customer == Customer("Ada", "se")
    assert delivery.topic == "foreign.customer.se"
    assert delivery.id


def test_a_foreign_client_calls_a_responder(bus: EventBus, foreign: Any) -> None:
    @bus.respond(Sum)
    def add(request: Sum) -> int:
        return request.a + request.b

    bus.start()
    replies = foreign.queue_declare("", exclusive=True).method.queue
    properties = pika.BasicProperties(reply_to=replies, correlation_id="my own id")
    foreign.basic_publish("foreign.requests", "foreign.sum", b'{"a": 40, "b": 2}', properties)
    _, properties, body = get(foreign, replies)
    assert json.loads(body) == 42
    assert properties.correlation_id == "my own id"


def test_a_foreign_client_calls_over_direct_reply_to(bus: EventBus, foreign: Any) -> None:
    @bus.respond(Sum)
    def add(request: Sum) -> int:
        return request.a + request.b

    bus.start()
    answers: list[bytes] = []
    foreign.basic_consume("amq.rabbitmq.reply-to", lambda c, m, p, body: answers.append(body), auto_ack=True)
    properties = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="1")
    foreign.basic_publish("foreign.requests", "foreign.sum", b'{"a": 1, "b": 2}', properties)
    until = time.monotonic() + 10
    while not answers and time.monotonic() < until:
        foreign.connection.process_data_events(0.02)
    assert answers == [b"3"]


def test_a_request_is_answered_by_a_foreign_responder(bus: EventBus, broker: LocalBroker, foreign: Any) -> None:
    foreign.exchange_declare("foreign.requests", "topic", durable=True)
    served = foreign.queue_declare("", exclusive=True).method.queue
    foreign.queue_bind(served, "foreign.requests", "foreign.sum")
    answers: queue.Queue[Any] = queue.Queue()
    import threading

    thread = threading.Thread(target=lambda: answers.put(bus.request(Sum(2, 3), timeout=10)))
    thread.start()
    _, properties, body = get(foreign, served)
    data = json.loads(body)
    foreign.basic_publish(
        "",
        properties.reply_to,
        json.dumps(data["a"] * data["b"]).encode(),
        pika.BasicProperties(correlation_id=properties.correlation_id),
    )
    assert answers.get(timeout=10) == 6
    thread.join()


def test_a_foreign_consumer_reads_our_event_as_a_cloudevent(bus: EventBus, foreign: Any) -> None:
    foreign.exchange_declare("foreign.events", "topic", durable=True)
    name = foreign.queue_declare("", exclusive=True).method.queue
    foreign.queue_bind(name, "foreign.events", "#")
    bus.publish(Customer("Ada", "se"), headers={"tenant": "north"})
    method, properties, body = get(foreign, name)
    assert json.loads(body) == {"name": "Ada", "country": "se"}
    assert method.routing_key == "foreign.customer.se"
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.message_id == properties.headers["ce-id"]
    assert properties.type == "foreign.customer"
    assert properties.headers["tenant"] == "north"
    theirs = from_rabbitmq_event(
        RabbitMQMessage(headers=properties.headers, body=body, content_type=properties.content_type)
    )
    assert theirs.get_type() == "foreign.customer"
    assert theirs.get_source() == bus.service
    assert theirs.get_subject() == "foreign.customer.se"
    assert abs(theirs.get_time().timestamp() - time.time()) < 60
    assert theirs.get_data() == {"name": "Ada", "country": "se"}


def test_an_event_of_the_cloudevents_package_reaches_a_handler(bus: EventBus, foreign: Any) -> None:
    got: queue.Queue[tuple[Customer, Delivery]] = queue.Queue()

    @bus.subscribe(Customer)
    def handle(event: Customer, delivery: Delivery) -> None:
        got.put((event, delivery))

    bus.start()
    attributes = {
        "id": "their-id",
        "type": "foreign.customer",
        "source": "/their/source",
        "specversion": "1.0",
        "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "subject": "their subject",
        "datacontenttype": "application/json",
    }
    theirs = to_binary_event(CloudEvent(attributes, {"name": "Ada", "country": "se"}))
    foreign.basic_publish(
        "foreign.events",
        "foreign.customer.no",
        theirs.body,
        pika.BasicProperties(content_type=theirs.content_type, headers=dict(theirs.headers)),
    )
    customer, delivery = got.get(timeout=10)
    assert customer == Customer("Ada", "se")
    message = delivery.message
    assert (message.id, message.source, message.subject) == ("their-id", "/their/source", "their subject")
    assert message.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


def test_a_structured_cloudevent_reaches_a_handler(bus: EventBus, foreign: Any) -> None:
    got: queue.Queue[tuple[Customer, Delivery]] = queue.Queue()

    @bus.subscribe(Customer)
    def handle(event: Customer, delivery: Delivery) -> None:
        got.put((event, delivery))

    bus.start()
    whole = {
        "specversion": "1.0",
        "id": "s-1",
        "type": "foreign.customer",
        "source": "/x",
        "datacontenttype": "application/json",
        "data": {"name": "Ada", "country": "se"},
    }
    foreign.basic_publish(
        "foreign.events",
        "foreign.customer.dk",
        json.dumps(whole).encode(),
        pika.BasicProperties(content_type="application/cloudevents+json"),
    )
    customer, delivery = got.get(timeout=10)
    assert customer == Customer("Ada", "se")
    assert delivery.message.id == "s-1"
