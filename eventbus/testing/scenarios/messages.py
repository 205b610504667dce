"""Messages: what an event takes along, and what its options do."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from eventbus._delivery import Delivery
from eventbus._events import spec_of
from eventbus._message import Message
from eventbus._topology import Queue
from eventbus.testing._features import needs
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Number, Seen, noting


class Messages:
    """Attributes, headers, expiry and priorities."""

    def _message(self, stage: Stage, **options: Any) -> Message:
        event, seen = stage.event(Number, topic="numbers.{kind}"), Seen[Message]()
        bus = stage.bus()

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add(delivery.message)

        bus.start().publish(event(1, kind="odd"), **options)
        return seen.wait()[0]

    def test_a_message_carries_the_cloudevents_attributes(self, stage: Stage) -> None:
        event, seen = stage.event(Number, version=2, dataschema="urn:numbers"), Seen[Message]()
        bus = stage.bus()

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add(delivery.message)

        receipt = bus.start().submit(event(1))
        message = seen.wait()[0]
        assert receipt.error() is None
        assert message.id == receipt.id
        assert message.type == stage.name("number") + ".v2"
        assert message.source == stage.service
        assert message.subject == message.topic == "number"
        assert message.dataschema == "urn:numbers"
        assert message.content_type == "application/json"
        assert abs(message.time - time.time()) < 60

    def test_topic_and_exchange_are_those_of_the_publish(self, stage: Stage) -> None:
        message = self._message(stage)
        assert (message.exchange, message.topic) == (stage.exchange.name, "numbers.odd")

    def test_headers_arrive_as_they_were_given(self, stage: Stage) -> None:
        headers = {
            "text": "grüße",
            "whole": 2**40,
            "negative": -1,
            "real": 0.25,
            "yes": True,
            "none": None,
            "bytes": b"\x00\xff",
            "time": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
            "list": [1, "two", [3]],
            "table": {"inner": {"deep": 1}},
        }
        assert dict(self._message(stage, headers=headers).headers) == headers

    def test_correlation_id_and_priority_arrive(self, stage: Stage) -> None:
        message = self._message(stage, correlation_id="order-77", priority=3)
        assert (message.correlation_id, message.priority) == ("order-77", 3)

    def test_an_event_is_persistent_unless_told_otherwise(self, stage: Stage) -> None:
        assert self._message(stage).persistent is True

    def test_an_event_may_be_transient(self, stage: Stage) -> None:
        assert self._message(stage, persistent=False).persistent is False

    def test_type_and_topic_may_be_overridden_for_one_publish(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Message]()
        bus = stage.bus()

        @bus.subscribe(pattern="elsewhere.#", exchange=stage.exchange)
        def handle(number: Any, delivery: Delivery) -> None:
            seen.add(delivery.message)

        bus.start().publish(event(1), topic="elsewhere.now", type="other.type")
        message = seen.wait()[0]
        assert (message.topic, message.type) == ("elsewhere.now", "other.type")

    def test_a_structured_cloudevent_of_a_foreign_client_is_read(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Any]()
        bus, outside = stage.bus(), stage.outside()

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add((number, delivery.id, delivery.message.source))

        bus.start()
        body = {
            "specversion": "1.0", "id": "their-id", "source": "urn:theirs", "type": spec_of(event).type,
            "datacontenttype": "application/json", "data": {"value": 4, "kind": "foreign"},
        }  # fmt: skip
        message = outside.message(
            exchange=stage.exchange.name, topic="number", body=json.dumps(body).encode(),
            content_type="application/cloudevents+json",
        )  # fmt: skip
        assert outside.publish(message) is None
        assert seen.wait() == [(event(4, "foreign"), "their-id", "urn:theirs")]

    @needs("expiry")
    def test_an_undelivered_event_expires_into_the_dead_letter_queue(self, stage: Stage) -> None:
        event = stage.event(Number)
        consumer = stage.bus()
        consumer.subscribe(event)(noting(Seen()))
        consumer.start().stop()
        stage.bus(service=stage.name("publisher")).publish(event(1), ttl=0.05, mandatory=True)
        dead = stage.outside().dead_letters(stage.queue_of(event))
        assert dead.messages()[0].headers["x-first-death-reason"] == "expired"

    @needs("expiry")
    def test_an_event_that_is_handled_in_time_does_not_expire(self, stage: Stage) -> None:
        message = self._message(stage, ttl=30.0)
        assert message.ttl == 30.0

    @needs("priority")
    def test_urgent_messages_are_handed_out_first(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()
        queue = Queue(name=stage.name("urgent"), type="classic", max_priority=5)

        def consumer() -> Any:
            bus = stage.bus()
            bus.subscribe(event, queue=queue, prefetch=1)(noting(seen))
            return bus.start()

        consumer().stop()
        publisher = stage.bus(service=stage.name("publisher"))
        for value in (1, 5, 3, 0):
            publisher.publish(event(value), priority=value)
        consumer()
        assert [e.value for e in seen.wait(4)] == [5, 3, 1, 0]
