"""Partitions: order by key, shared by the processes of a group."""

from __future__ import annotations

import threading
import time

import pytest

from eventbus._bus import _sharing
from eventbus._delivery import Delivery
from eventbus._errors import TopologyMismatch
from eventbus._keys import slot_of
from eventbus.testing._eventually import eventually
from eventbus.testing._features import needs
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.ordering import Book, Step, serve
from eventbus.testing.scenarios.samples import Gauge, Number, Seen, noting


class Partitions:
    """``partitions``."""

    def test_each_key_has_its_partition_and_messages_without_a_key_have_one_too(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[tuple[int, str]](), stage.bus()

        @bus.subscribe(event, partitions=3, concurrency=2)
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add((number.value, delivery.queue))

        bus.start()
        for number in range(30):
            bus.publish(event(number), key=f"key-{number}", mandatory=True)
        bus.publish(event(99), mandatory=True)
        queue = stage.queue_of(event)
        expected = {(n, f"{queue}.{slot_of(f'key-{n}') % 3}") for n in range(30)} | {(99, f"{queue}.0")}
        assert set(seen.wait(31)) == expected

    def test_partitions_share_the_concurrency_of_their_subscription(self, stage: Stage) -> None:
        event, gauge, done, bus = stage.event(Step, key="{customer}"), Gauge(), Seen[int](), stage.bus()

        @bus.subscribe(event, partitions=4, concurrency=3)
        def handle(step: Step) -> None:
            with gauge:
                time.sleep(0.005)
            done.add(step.number)

        bus.start().publish_many(event(str(number), number) for number in range(60))
        done.wait(60)
        assert 2 <= gauge.most <= 3

    def test_who_joins_gets_partitions_and_who_leaves_hands_them_over_in_order(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_sharing, "LOOK_SECONDS", 0.05)
        monkeypatch.setattr(_sharing, "STAY_SECONDS", 0.0)
        event, book, active = stage.event(Step, key="{customer}"), Book(), Seen[int]()
        buses = [stage.bus() for _ in range(3)]
        for number, bus in enumerate(buses):
            serve(bus, event, book, active, number, partitions=6, concurrency=4)
        publisher = stage.bus(service=stage.name("publisher"))
        going = threading.Event()
        published = 0

        def publish() -> None:
            nonlocal published
            while not going.is_set():
                publisher.publish_many(event(str(key), published) for key in range(24))
                published += 1
                time.sleep(0.01)

        buses[0].start()
        thread = threading.Thread(target=publish)
        thread.start()
        try:
            for number in (1, 2):
                buses[number].start()
                eventually(lambda n=number: n in active.all[-50:], 20)  # type: ignore[misc]
            buses[0].stop()
            seen = len(active.all)
            eventually(lambda: {1, 2} <= set(active.all[seen:]), 20)
        finally:
            going.set()
            thread.join(20)
        eventually(lambda: book.count == 24 * published, 20)
        book.check(24, published)

    def test_a_partition_that_was_handed_over_comes_back_when_the_other_one_leaves(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_sharing, "LOOK_SECONDS", 0.05)
        monkeypatch.setattr(_sharing, "STAY_SECONDS", 0.0)
        event, book, active = stage.event(Step, key="{customer}"), Book(), Seen[int]()
        first, second, publisher = stage.bus(), stage.bus(), stage.bus(service=stage.name("publisher"))
        for number, bus in enumerate((first, second)):
            serve(bus, event, book, active, number, partitions=2)
        first.start()
        second.start()
        published = 0

        def both_at_work() -> bool:
            nonlocal published
            publisher.publish_many(event(str(key), published) for key in range(16))
            published += 1
            eventually(lambda: book.count == 16 * published, 20)
            return set(active.all[-16:]) == {0, 1}

        eventually(both_at_work, 20)
        second.stop()
        for _ in range(3):
            assert not both_at_work()
        assert set(active.all[-16:]) == {0}
        book.check(16, published)

    def test_another_number_of_partitions_is_refused(self, stage: Stage) -> None:
        event = stage.event(Step, key="{customer}")
        bus, other = stage.bus(), stage.bus()
        bus.subscribe(event, partitions=2)(noting(Seen()))
        other.subscribe(event, partitions=4)(noting(Seen()))
        bus.start()
        with pytest.raises(TopologyMismatch):
            other.start()

    @needs("disconnect")
    def test_after_a_lost_connection_the_order_of_each_key_is_kept(self, stage: Stage) -> None:
        event, book, bus = stage.event(Step, key="{customer}"), Book(), stage.bus()
        active = Seen[int]()
        serve(bus, event, book, active, 0, partitions=2, concurrency=4)
        bus.start().publish_many(event(str(key), number) for number in range(20) for key in range(6))
        active.wait(10)
        stage.suite.disconnect(stage.transport)
        eventually(lambda: book.count == 120, 30)
        book.check(6, 20)
