"""Settling: what the outcome of a handler does to the message."""

from __future__ import annotations

import time
from typing import Any

from eventbus._delivery import Delivery
from eventbus._errors import Reject, RetryLater
from eventbus._settlement import Retry
from eventbus.testing._eventually import eventually
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Number, Seen, noting


class Settling:
    """By hand, at receipt, and by exceptions that choose."""

    def _by_hand(self, stage: Stage, first: Any) -> list[tuple[int, bool]]:
        """Settle the first arrival with ``first`` and all others with ack; attempt and redelivered of each."""
        event, seen = stage.event(Number), Seen[tuple[int, bool]]()
        bus = stage.bus()

        @bus.subscribe(event, settle="manual")
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add((delivery.attempt, delivery.redelivered))
            if len(seen.all) == 1:
                stage.runner.call(first, delivery)
            else:
                stage.runner.call(delivery.ack)

        bus.start().publish(event(1))
        bus.publish(event(2))
        seen.wait(2)
        return seen.all

    def test_ack_by_hand_forgets_the_message(self, stage: Stage) -> None:
        assert self._by_hand(stage, lambda delivery: delivery.ack()) == [(1, False), (1, False)]

    def test_retry_by_hand_counts_as_an_attempt(self, stage: Stage) -> None:
        seen = self._by_hand(stage, lambda delivery: delivery.retry())
        eventually(lambda: len(seen) == 3)
        assert sorted(attempt for attempt, _ in seen) == [1, 1, 2]

    def test_retry_by_hand_after_a_delay_comes_no_sooner(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[float]()
        bus = stage.bus()

        @bus.subscribe(event, settle="manual")
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add(time.monotonic())
            stage.runner.call(lambda: delivery.retry(0.1) if delivery.attempt == 1 else delivery.ack())

        bus.start().publish(event(1))
        first, second = seen.wait(2)
        assert second - first >= 0.095

    def test_requeue_by_hand_hands_the_message_out_again(self, stage: Stage) -> None:
        seen = self._by_hand(stage, lambda delivery: delivery.requeue())
        eventually(lambda: len(seen) == 3)
        assert sorted(redelivered for _, redelivered in seen) == [False, False, True]

    def test_dead_letter_by_hand_keeps_the_reason(self, stage: Stage) -> None:
        event = stage.event(Number)
        bus = stage.bus()

        @bus.subscribe(event, settle="manual")
        def handle(number: Number, delivery: Delivery) -> None:
            stage.runner.call(delivery.dead_letter, "no such customer")

        bus.start().publish(event(1))
        dead = stage.outside().dead_letters(stage.queue_of(event))
        assert dead.messages()[0].headers["eventbus-dead-reason"] == "no such customer"

    def test_at_receipt_a_failing_handler_loses_the_message(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[int]()
        bus = stage.bus()

        # Nothing is ever unsettled, so a prefetch of 1 does not stop the second message.
        @bus.subscribe(event, settle="receipt", prefetch=1, retry=Retry(attempts=3, backoff=None))
        def handle(number: Number) -> None:
            seen.add(number.value)
            raise RuntimeError("too late")

        bus.start().publish(event(1))
        bus.publish(event(2))
        assert seen.wait(2) == [1, 2]
        bus.publish(event(3))
        assert seen.wait(3) == [1, 2, 3]

    def test_retry_later_comes_back_no_sooner_than_it_says(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[tuple[int, float]]()
        bus = stage.bus()

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add((delivery.attempt, time.monotonic()))
            if delivery.attempt == 1:
                raise RetryLater(0.2)

        bus.start().publish(event(1))
        (one, first), (two, second) = seen.wait(2)
        assert (one, two) == (1, 2)
        assert second - first >= 0.195

    def test_while_one_message_waits_for_its_retry_others_are_handled(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add(number.value)
            if number.value == 0 and delivery.attempt == 1:
                raise RetryLater(0.25)

        bus.start().publish_many(event(n) for n in range(5))
        assert seen.wait(6) == [0, 1, 2, 3, 4, 0]

    def test_reject_dead_letters_at_once(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event, retry=Retry(attempts=5, backoff=None))
        def handle(number: Number) -> None:
            seen.add(number.value)
            raise Reject("never")

        bus.start().publish(event(1))
        dead = stage.outside().dead_letters(stage.queue_of(event)).messages()[0]
        assert dead.headers["eventbus-dead-reason"] == "never"
        assert seen.all == [1]

    def test_errors_that_the_policy_gives_up_on_are_dead_lettered_at_once(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event, retry=Retry(attempts=5, backoff=None, give_up_on=(LookupError,)))
        def handle(number: Number) -> None:
            seen.add(number.value)
            raise KeyError("gone")

        bus.start().publish(event(1))
        dead = stage.outside().dead_letters(stage.queue_of(event)).messages()[0]
        assert dead.headers["eventbus-dead-error-type"] == "KeyError"
        assert seen.all == [1]

    def test_a_retried_message_keeps_what_it_was_published_with(self, stage: Stage) -> None:
        event, seen = stage.event(Number, topic="numbers.{kind}"), Seen[Any]()
        bus = stage.bus()

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            message = delivery.message
            seen.add((message.id, message.exchange, message.topic, dict(message.headers), message.correlation_id,
                      message.time, message.type, message.source, message.subject, number))  # fmt: skip
            if delivery.attempt < 3:
                raise RetryLater(0.0 if delivery.attempt == 1 else 0.05)

        bus.start().publish(event(1), headers={"h": [1, {"x": b"y"}]}, correlation_id="c")
        first, second, third = seen.wait(3)
        assert first == second == third
        assert first[1:4] == (stage.exchange.name, "numbers.plain", {"h": [1, {"x": b"y"}]})

    def test_without_a_dead_letter_queue_a_given_up_message_is_dropped(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event, dead_letter=False)
        def handle(number: Number) -> None:
            seen.add(number.value)
            if number.value == 1:
                raise Reject("never")

        bus.start().publish(event(1))
        bus.publish(event(2))
        assert seen.wait(2) == [1, 2]
        bus.stop()
        again = stage.bus()
        later = Seen[Number]()
        again.subscribe(event, dead_letter=False)(noting(later))
        again.start().publish(event(3))
        assert later.wait() == [event(3)]
