"""Groups: who shares work, who gets a copy, and within which limits."""

from __future__ import annotations

import threading
from typing import Any

from eventbus._delivery import Delivery
from eventbus.testing._eventually import eventually
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Gauge, Number, Seen, noting


class Groups:
    """Work queues, copies, broadcast and limits."""

    def test_the_instances_of_a_group_share_the_work(self, stage: Stage) -> None:
        event = stage.event(Number)
        shares: list[Seen[Number]] = [Seen(), Seen()]
        both_work = threading.Barrier(2)
        for share in shares:
            bus = stage.bus()

            def handle(number: Number, mine: Seen[Number] = share) -> None:
                if number.value < 2:
                    both_work.wait(10)  # so that neither instance can do it all
                mine.add(number)

            bus.subscribe(event, prefetch=1)(handle)
            bus.start()
        stage.bus(service=stage.name("publisher")).publish_many(event(n) for n in range(40))
        eventually(lambda: len(shares[0].all) + len(shares[1].all) >= 40)
        assert sorted(e.value for share in shares for e in share.all) == list(range(40))
        assert all(share.all for share in shares)

    def test_every_group_gets_its_own_copy(self, stage: Stage) -> None:
        event, one, two = stage.event(Number), Seen[Number](), Seen[Number]()
        first, second = stage.bus(service=stage.name("one")), stage.bus(service=stage.name("two"))
        first.subscribe(event)(noting(one))
        second.subscribe(event)(noting(two))
        second.start()
        first.start().publish_many(event(n) for n in range(5))
        assert [e.value for e in one.wait(5)] == [e.value for e in two.wait(5)] == list(range(5))

    def test_two_subscriptions_of_a_group_do_not_compete(self, stage: Stage) -> None:
        event, one, two = stage.event(Number), Seen[Number](), Seen[Number]()
        bus = stage.bus()
        bus.subscribe(event, name="one")(noting(one))
        bus.subscribe(event, name="two")(noting(two))
        bus.start().publish_many(event(n) for n in range(5))
        assert len(one.wait(5)) == len(two.wait(5)) == 5

    def test_a_broadcast_reaches_every_instance(self, stage: Stage) -> None:
        event = stage.event(Number)
        shares: list[Seen[Number]] = [Seen(), Seen(), Seen()]
        for share in shares:
            bus = stage.bus()
            bus.subscribe(event, broadcast=True)(noting(share))
            bus.start()
        bus.publish(event(1), mandatory=True)
        assert [share.wait() for share in shares] == [[event(1)]] * 3

    def test_a_broadcast_queue_goes_with_its_instance(self, stage: Stage) -> None:
        event = stage.event(Number)
        listener, publisher = stage.bus(), stage.bus(service=stage.name("publisher"))
        listener.subscribe(event, broadcast=True)(noting(Seen()))
        listener.start()
        publisher.publish(event(1))
        assert publisher.health().unroutable == 0
        listener.stop()

        def nobody_listens() -> bool:
            publisher.publish(event(2))
            return publisher.health().unroutable > 0

        eventually(nobody_listens)

    def test_a_group_keeps_what_comes_while_it_is_down(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()

        def consumer() -> Any:
            bus = stage.bus()
            bus.subscribe(event)(noting(seen))
            return bus.start()

        consumer().stop()
        stage.bus(service=stage.name("publisher")).publish_many(event(n) for n in range(10))
        consumer()
        assert [e.value for e in seen.wait(10)] == list(range(10))

    def test_no_more_handlers_run_at_once_than_concurrency_says(self, stage: Stage) -> None:
        event, seen, gauge, go = stage.event(Number), Seen[int](), Gauge(), threading.Event()
        bus = stage.bus()

        @bus.subscribe(event, concurrency=3)
        def handle(number: Number) -> None:
            with gauge:
                go.wait(10)
            seen.add(number.value)

        bus.start().publish_many(event(n) for n in range(12))
        eventually(lambda: gauge.now == 3)
        go.set()
        assert sorted(seen.wait(12)) == list(range(12))
        assert gauge.most == 3

    def test_with_concurrency_one_handlers_never_overlap(self, stage: Stage) -> None:
        event, seen, gauge = stage.event(Number), Seen[int](), Gauge()
        bus = stage.bus()

        @bus.subscribe(event)
        def handle(number: Number) -> None:
            with gauge:
                seen.add(number.value)

        bus.start().publish_many(event(n) for n in range(100))
        assert seen.wait(100) == list(range(100))
        assert gauge.most == 1

    def test_no_more_deliveries_are_unsettled_than_prefetch_says(self, stage: Stage) -> None:
        event, mark, held, marks = stage.event(Number), stage.event(Number, topic="mark"), Seen[Delivery](), Seen[Any]()
        bus = stage.bus()

        @bus.subscribe(event, name="held", settle="manual", prefetch=4)
        def hold(number: Number, delivery: Delivery) -> None:
            held.add(delivery)

        bus.subscribe(mark, name="mark")(noting(marks))
        bus.start().publish_many(event(n) for n in range(10))
        held.wait(4)
        bus.publish(mark(1))
        marks.wait()  # the broker has had its time to send more
        assert len(held.all) == 4
        for count in range(10):
            stage.runner.call(held.wait(count + 1)[count].ack)
        assert len(held.all) == 10
