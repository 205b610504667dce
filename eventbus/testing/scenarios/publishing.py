"""Publishing: every publish has exactly one outcome."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from eventbus._errors import (
    BusClosed,
    EncodingError,
    ExchangeMissing,
    MessageTooLarge,
    NotSent,
    PublishManyError,
    Unroutable,
)
from eventbus.testing._eventually import eventually
from eventbus.testing._holding import HoldingTransport
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Number, Seen, Word, noting


class Publishing:
    """Outcomes, pipelining, order and back-pressure."""

    def test_a_confirmed_event_reaches_its_subscriber(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()
        bus = stage.bus()
        bus.subscribe(event)(noting(seen))
        bus.start().publish(event(7))
        assert seen.wait() == [event(7)]

    def test_an_event_without_subscriber_is_counted_and_no_error(self, stage: Stage) -> None:
        event, bus = stage.event(Number), stage.bus()
        bus.publish(event(1))
        bus.publish(event(2))
        assert bus.health().unroutable == 2

    def test_an_event_without_subscriber_is_an_error_where_mandatory(self, stage: Stage) -> None:
        event, strict = stage.event(Number), stage.event(Word, mandatory=True)
        bus, strict_bus = stage.bus(), stage.bus(mandatory=True)
        with pytest.raises(Unroutable):
            bus.publish(event(1), mandatory=True)
        with pytest.raises(Unroutable):
            bus.publish(strict("x"))
        with pytest.raises(Unroutable):
            strict_bus.publish(event(1))
        bus.publish(event(2))
        assert bus.health().unroutable == 1

    def test_a_missing_exchange_is_an_error_and_publishing_goes_on(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()
        bus = stage.bus()
        bus.subscribe(event)(noting(seen))
        bus.start()
        with pytest.raises(ExchangeMissing):
            bus.publish(event(1), exchange=stage.name("no-such-exchange"))
        bus.publish(event(2))
        assert seen.wait() == [event(2)]

    def test_a_missing_exchange_fails_no_other_publish_in_flight(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()
        bus = stage.bus()
        bus.subscribe(event)(noting(seen))
        bus.start()
        receipts = [
            bus.submit(event(n), **({"exchange": stage.name("no-such-exchange")} if n == 10 else {})) for n in range(20)
        ]
        errors = [receipt.error() for receipt in receipts]
        assert type(errors.pop(10)) is ExchangeMissing
        assert errors == [None] * 19
        assert {e.value for e in seen.wait(19)} == set(range(20)) - {10}

    def test_a_body_or_topic_above_the_limit_is_not_sent(self, stage: Stage) -> None:
        event = stage.event(Word)
        bus = stage.bus(max_body=1000)
        with pytest.raises(MessageTooLarge):
            bus.publish(event("x" * 1000))
        with pytest.raises(MessageTooLarge):
            bus.publish(event("x"), topic="t" * 256)
        bus.publish(event("x" * 900), topic="t" * 255)

    def test_a_large_body_arrives_whole(self, stage: Stage) -> None:
        event, seen = stage.event(Word), Seen[Word]()
        bus = stage.bus()
        bus.subscribe(event)(noting(seen))
        bus.start().publish(event("ä" * 1_000_000))
        assert seen.wait()[0].text == "ä" * 1_000_000

    def test_an_event_that_cannot_be_encoded_is_not_sent(self, stage: Stage) -> None:
        bus = stage.bus()
        with pytest.raises(EncodingError):
            bus.publish({"value": object()}, topic="x", exchange=stage.exchange)
        with pytest.raises(NotSent):
            bus.publish(stage.event(Number)(1), headers={"": 1})
        assert bus.health().publishes_in_flight == 0

    def test_publish_many_confirms_all_and_keeps_their_order(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()
        bus = stage.bus(window=20)
        bus.subscribe(event)(noting(seen))
        bus.start()
        assert bus.publish_many(event(n) for n in range(300)) == 300
        assert [e.value for e in seen.wait(300)] == list(range(300))

    def test_publish_many_tells_exactly_which_failed(self, stage: Stage) -> None:
        bus = stage.bus()
        bus.subscribe(pattern="taken", exchange=stage.exchange)(noting(Seen()))
        bus.start()
        many = [{"n": 0}, {"n": object()}, {"n": 2}, {"n": object()}, {"n": 4}]
        with pytest.raises(PublishManyError) as caught:
            bus.publish_many(many, topic="taken", exchange=stage.exchange)
        assert caught.value.confirmed == 3
        assert [(at, event) for at, event, _ in caught.value.failures] == [(1, many[1]), (3, many[3])]
        with pytest.raises(PublishManyError) as caught:
            bus.publish_many([{"n": 0}, {"n": 1}], topic="nobody", exchange=stage.exchange, mandatory=True)
        assert [type(error) for _, _, error in caught.value.failures] == [Unroutable, Unroutable]

    def test_submitted_events_are_confirmed_without_waiting_for_each(self, stage: Stage) -> None:
        event, bus = stage.event(Number), stage.bus()
        receipts = [bus.submit(event(n)) for n in range(100)]
        assert [receipt.error() for receipt in receipts] == [None] * 100
        assert all(receipt.done() for receipt in receipts)
        assert len({receipt.id for receipt in receipts}) == 100
        eventually(lambda: bus.health().publishes_in_flight == 0)

    def test_one_publisher_s_events_are_handled_in_order(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()
        bus = stage.bus()
        bus.subscribe(event)(noting(seen))
        bus.start()
        receipts = [bus.submit(event(n)) for n in range(300)]
        assert [e.value for e in seen.wait(300)] == list(range(300))
        assert [receipt.error() for receipt in receipts] == [None] * 300

    def test_many_threads_may_publish_at_once(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()
        bus = stage.bus(window=10)
        bus.subscribe(event, concurrency=4)(noting(seen))
        bus.start()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: bus.publish(event(n), mandatory=True), range(200)))
        assert sorted(e.value for e in seen.wait(200)) == list(range(200))

    def test_past_the_window_publishing_waits_and_then_goes_on(self, stage: Stage) -> None:
        event = stage.event(Number)
        holding = HoldingTransport(stage.transport)
        stage.target = holding
        bus = stage.bus(window=3).start()
        receipts = [bus.submit(event(n)) for n in range(3)]
        with pytest.raises(NotSent, match="3 publishes"):
            bus.submit(event(3), timeout=0.1)
        eventually(lambda: holding.held == 3)
        stage.runner.call(holding.release)
        assert [receipt.error() for receipt in receipts] == [None] * 3
        bus.publish(event(4))

    def test_after_stop_publishing_says_that_the_bus_is_closed(self, stage: Stage) -> None:
        event, bus = stage.event(Number), stage.bus()
        bus.publish(event(1))
        bus.stop()
        with pytest.raises(BusClosed):
            bus.publish(event(2))
        with pytest.raises(PublishManyError) as caught:
            bus.publish_many([event(3)])
        assert type(caught.value.failures[0][2]) is BusClosed
