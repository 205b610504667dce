"""Order: messages of one key, one after the other, in one process and over many."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass

import pytest

from eventbus._backoff import fixed
from eventbus._delivery import Delivery
from eventbus._errors import EncodingError, Reject, RetryLater
from eventbus._settlement import Retry
from eventbus.testing._eventually import eventually
from eventbus.testing._facade import Bus
from eventbus.testing._features import needs
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Gauge, Number, Seen, noting


@dataclass(frozen=True)
class Step:
    """The next thing that happens to a customer."""

    customer: str = ""
    number: int = 0


class Book:
    """What handlers did, by key: whether two of a key ever ran at once, and in which order they ran first."""

    def __init__(self) -> None:
        self.gauges: dict[str, Gauge] = defaultdict(Gauge)
        self.all = Gauge()
        self.order: dict[str, list[int]] = defaultdict(list)
        self._lock = threading.Lock()

    def note(self, step: Step) -> None:
        """A handler has it."""
        with self._lock:
            if step.number not in self.order[step.customer]:
                self.order[step.customer].append(step.number)

    @property
    def count(self) -> int:
        """How many different steps were handled."""
        return sum(map(len, self.order.values()))

    def check(self, keys: int, steps: int) -> None:
        """Each key in order, nothing lost, and never two of one key at once."""
        assert {key: list(range(steps)) for key in map(str, range(keys))} == self.order
        assert {gauge.most for gauge in self.gauges.values()} <= {0, 1}


def serve(bus: Bus, event: type[Step], book: Book, active: Seen[int], number: int, **options: object) -> None:
    """A handler that writes into the book, and its bus's number into ``active``."""

    @bus.subscribe(event, **options)
    def handle(step: Step) -> None:
        with book.gauges[step.customer]:
            active.add(number)
            time.sleep(0.002)
            book.note(step)


class Ordering:
    """``key=`` and ``ordered``."""

    def test_keys_run_side_by_side_and_the_messages_of_each_one_after_the_other(self, stage: Stage) -> None:
        event, book, bus = stage.event(Step, key="{customer}"), Book(), stage.bus()
        both = threading.Barrier(4)

        @bus.subscribe(event, ordered=True, concurrency=4)
        def handle(step: Step) -> None:
            with book.all, book.gauges[step.customer]:
                if step.number == 0:
                    both.wait(10)  # four keys at once, or this fails
                book.note(step)

        bus.start().publish_many(event(str(key), number) for number in range(25) for key in range(4))
        eventually(lambda: book.count == 100)
        book.check(4, 25)
        assert book.all.most == 4

    def test_a_publish_says_the_key_and_without_one_no_message_waits_for_another(self, stage: Stage) -> None:
        event, keys, bus = stage.event(Number), Seen[str | None](), stage.bus()
        both = threading.Barrier(3)

        @bus.subscribe(event, ordered=True, concurrency=3)
        def handle(number: Number, delivery: Delivery) -> None:
            keys.add(delivery.key)
            both.wait(10)

        bus.start().publish(event(1), key="k")
        bus.publish(event(2))
        bus.publish(event(3))
        assert sorted(map(str, keys.wait(3))) == ["None", "None", "k"]
        with pytest.raises(EncodingError):
            bus.publish(event(4), key="")

    def test_a_failing_message_holds_up_its_key_and_no_other(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Step, key="{customer}"), Seen[tuple[str, int, int]](), stage.bus()
        release = threading.Event()

        @bus.subscribe(event, ordered=True, concurrency=1, retry=Retry(attempts=10, backoff=fixed(0.05)))
        def handle(step: Step, delivery: Delivery) -> None:
            seen.add((step.customer, step.number, delivery.attempt))
            if step.customer == "bad" and step.number == 0 and not release.is_set():
                raise RuntimeError("not yet")

        bus.start().publish_many([event("bad", 0), event("bad", 1), *(event("good", n) for n in range(20))])
        eventually(lambda: sum(customer == "good" for customer, *_ in seen.all) == 20)
        eventually(lambda: sum(customer == "bad" for customer, *_ in seen.all) >= 3)
        assert ("bad", 1, 1) not in seen.all
        release.set()
        eventually(lambda: ("bad", 1, 1) in seen.all)
        bad = [(number, attempt) for customer, number, attempt in seen.all if customer == "bad"]
        assert bad == [(0, attempt) for attempt in range(1, len(bad))] + [(1, 1)]
        first = [number for customer, number, _ in seen.all if customer == "good"]
        assert first == list(range(20))

    def test_a_message_that_is_given_up_lets_the_next_of_its_key_go_on(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Step, key="{customer}"), Seen[tuple[int, int]](), stage.bus()

        @bus.subscribe(event, ordered=True, retry=Retry(attempts=3, backoff=None))
        def handle(step: Step, delivery: Delivery) -> None:
            seen.add((step.number, delivery.attempt))
            if step.number == 0:
                raise RuntimeError("never")
            if step.number == 1:
                raise Reject("nor this")

        bus.start().publish_many(event("k", number) for number in range(3))
        assert seen.wait(5) == [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1)]
        dead = stage.outside().dead_letters(stage.queue_of(event)).messages(2)
        assert [message.headers["eventbus-dead-attempts"] for message in dead] == [3, 1]
        assert dead[0].headers["eventbus-key"] == "k"

    def test_a_retry_in_place_comes_no_sooner_than_it_says(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Step, key="{customer}"), Seen[tuple[int, float]](), stage.bus()

        @bus.subscribe(event, ordered=True)
        def handle(step: Step, delivery: Delivery) -> None:
            seen.add((step.number, time.monotonic()))
            if delivery.attempt == 1 and step.number == 0:
                assert delivery.first_seen is None
                raise RetryLater(0.2)
            assert step.number or delivery.first_seen

        bus.start().publish_many([event("k", 0), event("k", 1)])
        (_, first), (_, second), _ = seen.wait(3)
        assert [number for number, _ in seen.all] == [0, 0, 1]
        assert second - first >= 0.195

    def test_settled_by_hand_a_key_waits_for_the_settlement(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Step, key="{customer}"), Seen[Delivery](), stage.bus()

        @bus.subscribe(event, ordered=True, concurrency=2, settle="manual")
        def handle(step: Step, delivery: Delivery) -> None:
            seen.add(delivery)

        bus.start().publish_many([event("a", 0), event("a", 1), event("b", 0)])
        first, other = seen.wait(2)
        assert (first.key, other.key) == ("a", "b")
        bus.publish(event("c", 0))
        assert seen.wait(3)[2].key == "c", "which has come behind the second one of a"
        stage.runner.call(first.retry)
        assert [delivery.attempt for delivery in seen.wait(4)] == [1, 1, 1, 2]
        stage.runner.call(seen.all[3].ack)
        assert seen.wait(5)[4].key == "a"
        assert seen.all[4].id != first.id

    def test_never_more_than_prefetch_unsettled_though_a_key_is_held_up(self, stage: Stage) -> None:
        event, begun, go, bus = stage.event(Step, key="{customer}"), Seen[int](), threading.Event(), stage.bus()

        @bus.subscribe(event, ordered=True, concurrency=4, prefetch=6)
        def handle(step: Step) -> None:
            begun.add(step.number)
            go.wait(20)

        bus.start().publish_many(event(str(number % 4), number) for number in range(40))
        begun.wait(4)
        eventually(lambda: bus.real._runtime.parked == 2)
        assert sorted(begun.all) == [0, 1, 2, 3]
        bus.publish(event("another", 99), mandatory=True)
        assert bus.real._runtime.parked == 2
        go.set()
        begun.wait(41)

    def test_one_process_is_active_and_the_next_takes_over_in_order(self, stage: Stage) -> None:
        event, book, active = stage.event(Step, key="{customer}"), Book(), Seen[int]()
        buses = [stage.bus(), stage.bus()]
        for number, bus in enumerate(buses):
            serve(bus, event, book, active, number, ordered=True, concurrency=4)
        publisher = stage.bus(service=stage.name("publisher"))
        buses[0].start()
        buses[1].start()
        publisher.publish_many(event(str(key), number) for number in range(20) for key in range(5))
        active.wait(20)
        assert set(active.all) == {0}
        buses[0].stop()
        eventually(lambda: book.count == 100)
        book.check(5, 20)
        assert set(active.all) == {0, 1}

    def test_stopping_is_bounded_though_an_ordered_handler_never_ends(self, stage: Stage) -> None:
        event, begun, go, bus = stage.event(Step, key="{customer}"), threading.Event(), threading.Event(), stage.bus()

        @bus.subscribe(event, ordered=True)
        def handle(step: Step) -> None:
            begun.set()
            go.wait(20)

        bus.start().publish_many([event("k", 0), event("k", 1)])
        assert begun.wait(10)
        began = time.monotonic()
        report = bus.stop(0.2)
        assert time.monotonic() - began < 3.0
        assert report.abandoned == 1
        go.set()
        again, seen = stage.bus(), Seen[Step]()
        again.subscribe(event, ordered=True)(noting(seen))
        again.start()
        assert seen.wait(2) == [event("k", 0), event("k", 1)], "what was not finished is delivered again, in order"

    def test_what_one_process_had_comes_to_the_next_one_before_anything_later(self, stage: Stage) -> None:
        event, held, seen = stage.event(Number), Seen[Delivery](), Seen[int]()
        first, second = stage.bus(), stage.bus()

        @first.subscribe(event, ordered=True, concurrency=10, prefetch=10, settle="manual")
        def hold(number: Number, delivery: Delivery) -> None:
            held.add(delivery)

        @second.subscribe(event, ordered=True)
        def handle(number: Number) -> None:
            seen.add(number.value)

        first.start().publish_many(event(number) for number in range(40))
        held.wait(10)
        second.start()
        for delivery in held.all[:3]:
            stage.runner.call(delivery.ack)
        first.stop()
        assert seen.wait(37) == list(range(3, 40))

    @needs("disconnect")
    def test_what_a_lost_connection_took_back_is_handled_when_it_comes_again_and_not_before(self, stage: Stage) -> None:
        event, calls, bus = stage.event(Step, key="{customer}"), Seen[tuple[str, int]](), stage.bus()
        begun, go = threading.Event(), threading.Event()

        @bus.subscribe(event, ordered=True, retry=Retry(attempts=50, backoff=None))
        def handle(step: Step, delivery: Delivery) -> None:
            calls.add((step.customer, step.number))
            if not go.is_set():
                begun.set()
                go.wait(20)
                raise RuntimeError("its delivery is lost, so that it is not tried again in its place")

        bus.start().publish_many([event("a", 0), event("a", 1), *(event(str(key), 0) for key in range(8))])
        assert begun.wait(10)
        eventually(lambda: bus.real._runtime.parked == 1)
        stage.suite.disconnect(stage.transport)
        eventually(lambda: bus.health().reconnects > 0, 20)
        bus.wait_ready()
        bus.publish(event("last", 0))
        go.set()
        calls.wait(12)
        eventually(lambda: bus.real._runtime.idle())
        assert calls.all[:1] == [("a", 0)]
        expected = [("a", 0), ("a", 1), *((str(key), 0) for key in range(8)), ("last", 0)]
        assert sorted(calls.all[1:]) == sorted(expected), "each once"
        assert [number for key, number in calls.all if key == "a"] == [0, 0, 1]
