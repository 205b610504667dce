"""Routing: which messages a subscription gets."""

from __future__ import annotations

from typing import Any

import pytest

from eventbus._delivery import Delivery
from eventbus._errors import Unroutable
from eventbus._topology import Exchange
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Number, Seen, Word, noting

TOPICS = ("a", "a.b", "a.b.c", "b", "b.a", "x.a.b")


class Routing:
    """The four kinds of exchange, patterns, and bindings between exchanges."""

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("a", ["a"]),
            ("a.*", ["a.b"]),
            ("*", ["a", "b"]),
            ("a.#", ["a", "a.b", "a.b.c"]),
            ("#.b", ["a.b", "b", "x.a.b"]),
            ("*.a.#", ["b.a", "x.a.b"]),
            ("#", list(TOPICS)),
        ],
    )
    def test_a_pattern_takes_the_topics_it_describes(self, stage: Stage, pattern: str, expected: list[str]) -> None:
        seen = Seen[str]()
        bus = stage.bus()

        @bus.subscribe(pattern=(pattern, "the.end"), exchange=stage.exchange)
        def handle(value: Any, delivery: Delivery) -> None:
            seen.add(delivery.topic)

        bus.start().publish_many(({"n": 1},), topic="the.start", exchange=stage.exchange)
        for topic in (*TOPICS, "the.end"):
            bus.publish({"n": 1}, topic=topic, exchange=stage.exchange)
        found = [topic for topic in seen.wait(len(expected) + 1) if not topic.startswith("the.")]
        assert found == expected

    def test_a_raw_pattern_gets_plain_json(self, stage: Stage) -> None:
        seen = Seen[Any]()
        bus = stage.bus()
        bus.subscribe(pattern="raw.#", exchange=stage.exchange)(noting(seen))
        bus.start().publish({"n": [1, 2.5, None, "ü"]}, topic="raw.dict", exchange=stage.exchange)
        bus.publish([1, {"x": True}], topic="raw.list", exchange=stage.exchange)
        assert seen.wait(2) == [{"n": [1, 2.5, None, "ü"]}, [1, {"x": True}]]

    def test_a_direct_exchange_takes_the_exact_topic_alone(self, stage: Stage) -> None:
        event, seen = stage.event(Number, topic="exact", exchange=stage.other_exchange("direct", "direct")), Seen[Any]()
        bus = stage.bus()
        bus.subscribe(event)(noting(seen))
        bus.start().publish(event(1), mandatory=True)
        with pytest.raises(Unroutable):
            bus.publish(event(2), topic="exact.not", mandatory=True)
        assert seen.wait() == [event(1)]

    def test_a_fanout_exchange_gives_to_all_whatever_the_topic(self, stage: Stage) -> None:
        event, seen = stage.event(Number, exchange=stage.other_exchange("fanout", "fanout")), Seen[Any]()
        bus = stage.bus()
        bus.subscribe(event, group=stage.name("one"))(noting(seen))
        bus.subscribe(event, group=stage.name("two"))(noting(seen))
        bus.start().publish(event(1), topic="anything.at.all", mandatory=True)
        assert seen.wait(2) == [event(1), event(1)]

    def test_a_headers_exchange_matches_all_or_any_header(self, stage: Stage) -> None:
        exchange = stage.other_exchange("headers", "headers")
        event, both, either = stage.event(Number, exchange=exchange), Seen[Any](), Seen[Any]()
        wanted = {"country": "se", "size": 5}
        bus = stage.bus()
        bus.subscribe(event, headers=wanted, match="all", group=stage.name("all"))(noting(both))
        bus.subscribe(event, headers=wanted, match="any", group=stage.name("any"))(noting(either))
        bus.start()
        bus.publish(event(1), headers={"country": "se", "size": 4}, mandatory=True)
        bus.publish(event(2), headers={"country": "se", "size": 5, "more": "x"}, mandatory=True)
        with pytest.raises(Unroutable):
            bus.publish(event(3), headers={"country": "fi"}, mandatory=True)
        assert either.wait(2) == [event(1), event(2)]
        assert both.wait() == [event(2)]

    def test_an_exchange_may_feed_another_one(self, stage: Stage) -> None:
        source = stage.other_exchange("source")
        event, seen = stage.event(Number), Seen[Any]()
        bus = stage.bus()
        bus.subscribe(event, bind_exchange=[(source, "number")])(noting(seen))
        bus.start()
        bus.publish(event(1), exchange=source, mandatory=True)
        with pytest.raises(Unroutable):
            bus.publish(event(2), exchange=source, topic="other", mandatory=True)
        assert seen.wait() == [event(1)]

    def test_one_subscription_takes_several_event_classes(self, stage: Stage) -> None:
        number, word, seen = stage.event(Number), stage.event(Word), Seen[Any]()
        bus = stage.bus()
        bus.subscribe(number, word)(noting(seen))
        bus.start().publish(number(1))
        bus.publish(word("two"))
        assert seen.wait(2) == [number(1), word("two")]

    def test_the_topic_template_takes_fields_of_the_event(self, stage: Stage) -> None:
        event, all_of_them, some = stage.event(Number, topic="numbers.{kind}.{value}"), Seen[Any](), Seen[Any]()
        bus = stage.bus()
        bus.subscribe(event)(noting(all_of_them))
        bus.subscribe(event, pattern="numbers.odd.*", group=stage.name("odd"))(noting(some))
        bus.start()
        for value in range(4):
            bus.publish(event(value, kind="odd" if value % 2 else "even"))
        assert [e.value for e in all_of_them.wait(4)] == [0, 1, 2, 3]
        assert [e.value for e in some.wait(2)] == [1, 3]

    def test_events_without_an_exchange_of_their_own_share_the_default_one(self, stage: Stage) -> None:
        event, seen = stage.event(Number, topic=stage.name("number"), exchange=None), Seen[Any]()
        bus = stage.bus()
        bus.subscribe(event)(noting(seen))
        bus.start().publish(event(1), mandatory=True)
        assert seen.wait() == [event(1)]

    def test_another_exchange_may_be_named_for_one_publish_and_one_subscription(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Any]()
        elsewhere: Exchange = stage.other_exchange("elsewhere")
        bus = stage.bus()
        bus.subscribe(event, exchange=elsewhere)(noting(seen))
        bus.start().publish(event(1), exchange=elsewhere.name, mandatory=True)
        with pytest.raises(Unroutable):
            bus.publish(event(2), mandatory=True)
        assert seen.wait() == [event(1)]

    def test_a_subscription_made_while_the_bus_runs_is_served(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Any]()
        bus = stage.bus().start()
        bus.subscribe(event)(noting(seen))
        bus.wait_ready()
        bus.publish(event(1), mandatory=True)
        assert seen.wait() == [event(1)]
