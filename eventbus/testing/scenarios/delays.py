"""Delays: events that are delivered later, and pauses between attempts."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from eventbus._backoff import fixed
from eventbus._delivery import Delivery
from eventbus._settlement import Retry
from eventbus.testing._features import needs
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Number, Seen, noting

SOON = 0.3
"""Seconds. Timers of brokers are exact to some milliseconds."""


class Delays:
    """No sooner than asked for, and nothing waits for others."""

    @needs("schedules")
    def test_a_delayed_event_comes_no_sooner_and_to_every_group(self, stage: Stage) -> None:
        event, seen = stage.event(Number, topic="numbers.{kind}"), Seen[tuple[str, float, Delivery]]()
        bus = stage.bus()
        for group in ("one", "two"):

            @bus.subscribe(event, group=stage.name(group))
            def handle(number: Number, delivery: Delivery, group: str = group) -> None:
                seen.add((group, time.monotonic(), delivery))

        bus.start()
        began = time.monotonic()
        receipt = bus.submit(event(7), delay=SOON, headers={"own": "kept"})
        assert sorted(group for group, _, _ in seen.wait(2)) == ["one", "two"]
        for _, at, delivery in seen.all:
            assert at - began >= SOON - 0.05
            assert delivery.id == receipt.id
            assert dict(delivery.headers) == {"own": "kept"}
            assert (delivery.exchange, delivery.topic) == (stage.exchange.name, "numbers.plain")
            assert (delivery.attempt, delivery.redelivered, delivery.first_seen) == (1, False, None)

    @needs("schedules")
    def test_an_event_is_confirmed_at_once_and_comes_at_its_time(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[float]()
        bus = stage.bus()
        bus.subscribe(event)(lambda number: seen.add(time.time()))
        bus.start()
        due = datetime.now(UTC) + timedelta(seconds=0.7)  # between two steps of a ladder of delays, if there is one
        bus.publish(event(1), deliver_at=due)
        assert not seen.all
        assert -0.1 < seen.wait()[0] - due.timestamp() < 5

    @needs("schedules")
    def test_a_time_that_has_passed_is_now(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()
        bus = stage.bus()
        bus.subscribe(event)(noting(seen))
        bus.start().publish(event(1), deliver_at=datetime.now(UTC) - timedelta(days=1))
        bus.publish(event(2), delay=0)
        assert sorted(number.value for number in seen.wait(2)) == [1, 2]

    @needs("schedules")
    def test_a_short_delay_does_not_stand_behind_a_long_one(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[int]()
        bus = stage.bus()
        bus.subscribe(event)(lambda number: seen.add(number.value))
        bus.start()
        bus.publish_many([event(30), event(31)], delay=30)
        bus.publish(event(1), delay=SOON)
        bus.publish(event(0))
        assert seen.wait(2) == [0, 1]

    @needs("schedules")
    def test_a_delayed_event_that_fails_is_tried_again_like_any_other(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[tuple[int, bool]]()
        bus = stage.bus()

        @bus.subscribe(event, retry=Retry(attempts=2, backoff=None))
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add((delivery.attempt, delivery.first_seen is not None))
            raise RuntimeError

        bus.start().publish(event(1), delay=0.1)
        dead = stage.outside().dead_letters(stage.queue_of(event)).messages()[0]
        assert seen.all == [(1, False), (2, True)]
        assert dead.headers["eventbus-dead-attempts"] == 2

    def test_the_pause_of_one_failure_holds_up_nothing_else(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[tuple[int, int]]()
        bus = stage.bus()

        @bus.subscribe(event, prefetch=1, retry=Retry(attempts=2, backoff=fixed(SOON)))
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add((number.value, delivery.attempt))
            if number.value == 0:
                raise RuntimeError

        bus.start().publish_many([event(number) for number in range(5)])
        assert seen.wait(6) == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (0, 2)]

    def test_a_retry_goes_to_the_group_that_failed_and_to_no_other(self, stage: Stage) -> None:
        event, good, bad = stage.event(Number), Seen[int](), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event, group=stage.name("good"))
        def handle(number: Number) -> None:
            good.add(number.value)

        @bus.subscribe(event, group=stage.name("bad"), retry=Retry(attempts=3, backoff=fixed(0.1)))
        def fail(number: Number, delivery: Delivery) -> None:
            bad.add(delivery.attempt)
            if number.value == 1:
                raise RuntimeError

        bus.start().publish(event(1))
        bad.wait(3)
        bus.publish(event(2))
        good.wait(2)
        assert bad.wait(4) == [1, 2, 3, 1]
        assert good.all == [1, 2]

    def test_the_time_of_the_first_failure_stays_through_all_attempts(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[float | None]()
        bus = stage.bus()

        @bus.subscribe(event, retry=Retry(attempts=3, backoff=fixed(0.1)))
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add(delivery.first_seen)
            raise RuntimeError

        bus.start().publish(event(1))
        dead = stage.outside().dead_letters(stage.queue_of(event)).messages()[0]
        first, second, third = seen.all
        assert first is None
        assert second == third == dead.headers["eventbus-first-seen"]
        assert abs(float(second or 0) - time.time()) < 60
