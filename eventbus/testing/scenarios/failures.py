"""Failures: handlers that raise, and messages that nobody can read."""

from __future__ import annotations

from typing import Any

import pytest

from eventbus._backoff import fixed
from eventbus._delivery import Delivery
from eventbus._events import spec_of
from eventbus._settlement import Retry
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Number, Seen, Word, noting


class Failures:
    """Retries until dead letter; hostile and foreign messages."""

    def test_a_failing_handler_is_retried_and_then_succeeds(self, stage: Stage) -> None:
        event, attempts = stage.event(Number), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            attempts.add(delivery.attempt)
            if delivery.attempt < 3:
                raise RuntimeError("not yet")

        bus.start().publish(event(1))
        assert attempts.wait(3) == [1, 2, 3]

    def test_when_attempts_are_spent_the_dead_letter_tells_why(self, stage: Stage) -> None:
        event, attempts = stage.event(Number, topic="numbers.{kind}"), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event, retry=Retry(attempts=3, backoff=None))
        def handle(number: Number, delivery: Delivery) -> None:
            attempts.add(delivery.attempt)
            raise ValueError(f"cannot do {number.value}")

        receipt = bus.start().submit(event(7), headers={"own": "kept"}, ttl=60.0, correlation_id="c")
        dead = stage.outside().dead_letters(stage.queue_of(event)).messages()[0]
        assert attempts.all == [1, 2, 3]
        assert dead.id == receipt.id
        assert dead.type == spec_of(event).type
        assert dead.correlation_id == "c"
        expected = {
            "own": "kept",
            "eventbus-dead-reason": "the handler failed in all 3 attempts",
            "eventbus-dead-error-type": "ValueError",
            "eventbus-dead-error": "cannot do 7",
            "eventbus-dead-queue": stage.queue_of(event),
            "eventbus-dead-attempts": 3,
            "eventbus-exchange": stage.exchange.name,
            "eventbus-topic": "numbers.plain",
        }
        assert {name: dead.headers[name] for name in expected} == expected
        assert dead.ttl is None

    def test_the_bus_s_own_policy_holds_where_the_subscription_has_none(self, stage: Stage) -> None:
        event, attempts = stage.event(Number), Seen[int]()
        bus = stage.bus(retry=Retry(attempts=2, backoff=fixed(0.05)))

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            attempts.add(delivery.attempt)
            raise RuntimeError

        bus.start().publish(event(1))
        stage.outside().dead_letters(stage.queue_of(event)).wait()
        assert attempts.all == [1, 2]

    def test_an_undecodable_body_is_dead_lettered_and_good_ones_behind_it_are_handled(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()
        bus, outside = stage.bus(), stage.outside()
        bus.subscribe(event)(noting(seen))
        bus.start()
        common: dict[str, Any] = {
            "exchange": stage.exchange.name, "topic": "number", "type": spec_of(event).type, "source": "elsewhere"
        }  # fmt: skip
        hostile = [b"", b"{", b"[" * 100_000, b'{"value": "text"}', b"\xff\xfe", b"null"]
        for body in hostile:
            assert outside.publish(outside.message(body=body, **common)) is None
        bus.publish(event(5))
        assert seen.wait() == [event(5)]
        dead = outside.dead_letters(stage.queue_of(event)).messages(len(hostile))
        assert sorted(m.body for m in dead) == sorted(hostile)
        assert {m.headers["eventbus-dead-error-type"] for m in dead} == {"DecodingError"}

    def test_an_event_of_an_unknown_type_is_dead_lettered(self, stage: Stage) -> None:
        known, unknown, seen = stage.event(Number), stage.event(Word, topic="number"), Seen[Any]()
        bus = stage.bus()
        bus.subscribe(known)(noting(seen))
        bus.start().publish(unknown("?"))
        bus.publish(known(1))
        assert seen.wait() == [known(1)]
        dead = stage.outside().dead_letters(stage.queue_of(known)).messages()[0]
        assert spec_of(unknown).type in str(dead.headers["eventbus-dead-error"])

    def test_an_event_of_an_unknown_type_is_ignored_where_asked(self, stage: Stage) -> None:
        known, unknown, seen = stage.event(Number), stage.event(Word, topic="number"), Seen[Any]()
        bus = stage.bus()
        bus.subscribe(known, on_unknown="ignore")(noting(seen))
        bus.start().publish(unknown("?"))
        bus.publish(unknown("?"), topic="number")
        bus.publish(known(1))
        assert seen.wait() == [known(1)]
        dead = stage.outside().dead_letters(stage.queue_of(known))
        bus.stop()
        assert dead.all == []

    def test_a_foreign_message_without_attributes_is_handled(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[tuple[Number, str, str]]()
        bus, outside = stage.bus(), stage.outside()

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add((number, delivery.type, delivery.id))

        bus.start()
        message = outside.message(exchange=stage.exchange.name, topic="number", body=b'{"value":3,"more":[1]}')
        assert outside.publish(message) is None
        assert seen.wait() == [(event(3), "", message.id)]

    def test_a_failing_foreign_message_is_retried_and_dead_lettered_too(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[tuple[int, str]]()
        bus, outside = stage.bus(), stage.outside()

        @bus.subscribe(event, retry=Retry(attempts=2, backoff=None))
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add((delivery.attempt, delivery.type))
            raise RuntimeError("no")

        bus.start()
        outside.publish(outside.message(exchange=stage.exchange.name, topic="number", body=b'{"value":3}'))
        dead = outside.dead_letters(stage.queue_of(event)).messages()[0]
        assert seen.all == [(1, ""), (2, "")]
        assert (dead.body, dead.headers["eventbus-dead-attempts"]) == (b'{"value":3}', 2)

    def test_an_attempt_header_written_by_a_stranger_does_no_harm(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[int]()
        bus, outside = stage.bus(), stage.outside()

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add(delivery.attempt)

        bus.start()
        for value in (-5, "many", 2**60, True, None):
            message = outside.message(
                exchange=stage.exchange.name, topic="number", body=b"{}", headers={"eventbus-attempt": value}
            )
            assert outside.publish(message) is None
        assert all(attempt >= 1 for attempt in seen.wait(5))

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
    def test_a_handler_that_raises_what_ends_a_program_costs_only_its_delivery(
        self, stage: Stage, error: type[BaseException]
    ) -> None:
        event, seen = stage.event(Number), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event, retry=Retry(attempts=1, backoff=None))
        def handle(number: Number) -> None:
            if number.value == 0:
                raise error
            seen.add(number.value)

        bus.start().publish_many(event(n) for n in range(3))
        assert seen.wait(2) == [1, 2]
        stage.outside().dead_letters(stage.queue_of(event)).wait()
