"""Batches: handlers that take lists."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

from eventbus._backoff import fixed
from eventbus._batch import Batch
from eventbus._delivery import Context, Delivery
from eventbus._errors import BatchError, Reject
from eventbus._handlers import Depends
from eventbus._middleware import Middleware
from eventbus._settlement import Retry, Settlement
from eventbus.testing._eventually import eventually
from eventbus.testing._features import needs
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Gauge, Number, Seen, Word

AT_ONCE = Retry(attempts=3, backoff=None)


def subscription(context: Context) -> str:
    """A dependency that asks for the context."""
    return context.subscription


class Around(Middleware):
    """Notes what it sees of each member of a batch."""

    def __init__(self, seen: Seen[str]) -> None:
        self.seen = seen

    def received(self, delivery: Delivery) -> None:
        """Note the begin."""
        self.seen.add(f"received {delivery.headers['n']}")

    def handling(self, delivery: Delivery) -> AbstractContextManager[Any]:
        """Note the error that this member came to; refuse one member."""
        return self._around(delivery.headers["n"])

    @contextmanager
    def _around(self, number: Any) -> Iterator[None]:
        if number == 3:
            raise Reject("refused by the middleware")
        try:
            yield
        except Exception as error:
            self.seen.add(f"{number} failed: {error}")
            raise
        self.seen.add(f"{number} done")

    def settled(self, delivery: Delivery, settlement: Settlement, seconds: float) -> None:
        """Note the outcome."""
        self.seen.add(f"{delivery.headers['n']} {type(settlement).__name__}")


class Batches:
    """``batch=Batch(size=..., wait=...)``."""

    def test_a_handler_gets_as_many_as_make_a_batch_in_order(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[list[int]](), stage.bus()

        @bus.subscribe(event, batch=Batch(size=10, wait=30.0))
        def handle(numbers: list[Number]) -> None:
            seen.add([number.value for number in numbers])

        bus.start().publish_many(event(number) for number in range(40))
        assert seen.wait(4) == [list(range(start, start + 10)) for start in range(0, 40, 10)]

    def test_a_part_of_a_batch_comes_when_its_time_is_over(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[tuple[float, list[int]]](), stage.bus()

        @bus.subscribe(event, batch=Batch(size=100, wait=0.2))
        def handle(numbers: list[Number]) -> None:
            seen.add((time.monotonic(), [number.value for number in numbers]))

        bus.start()
        began = time.monotonic()
        bus.publish_many(event(number) for number in range(3))
        bus.publish_many(event(number) for number in range(3, 5))
        eventually(lambda: sum(len(numbers) for _, numbers in seen.all) == 5)
        assert seen.all[0][0] - began >= 0.195
        assert [number for _, numbers in seen.all for number in numbers] == [0, 1, 2, 3, 4]

    def test_after_the_handler_returned_nothing_comes_again(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[int](), stage.bus()

        @bus.subscribe(event, batch=Batch(size=3, wait=0.05))
        def handle(numbers: list[Number]) -> None:
            seen.all.extend(number.value for number in numbers)

        bus.start().publish_many(event(number) for number in range(7))
        eventually(lambda: len(seen.all) == 7)
        bus.stop()
        again, later = stage.bus(), Seen[int]()

        @again.subscribe(event)
        def note(number: Number) -> None:
            later.add(number.value)

        again.start().publish(event(99))
        assert later.wait() == [99]

    def test_limits_hold_for_batches(self, stage: Stage) -> None:
        event, gauge, sizes, bus = stage.event(Number), Gauge(), Seen[int](), stage.bus()

        @bus.subscribe(event, batch=Batch(size=5, wait=0.05), concurrency=2)
        def handle(numbers: list[Number]) -> None:
            with gauge:
                time.sleep(0.01)
            sizes.add(len(numbers))

        bus.start().publish_many(event(number) for number in range(100))
        eventually(lambda: sum(sizes.all) == 100)
        assert gauge.most == 2
        assert max(sizes.all) == 5

    def test_a_handler_that_raises_fails_all_of_its_batch(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[tuple[int, int]](), stage.bus()

        @bus.subscribe(event, batch=Batch(size=2, wait=0.05), retry=AT_ONCE)
        def handle(numbers: list[Number], deliveries: list[Delivery]) -> None:
            for number, delivery in zip(numbers, deliveries, strict=True):
                seen.add((number.value, delivery.attempt))
            raise RuntimeError("never")

        bus.start().publish_many([event(0), event(1)])
        dead = stage.outside().dead_letters(stage.queue_of(event)).messages(2)
        assert {message.headers["eventbus-dead-attempts"] for message in dead} == {3}
        assert sorted(seen.all) == [(number, attempt) for number in range(2) for attempt in range(1, 4)]

    def test_some_of_a_batch_may_fail_apart(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[tuple[int, int]](), stage.bus()

        @bus.subscribe(event, batch=Batch(size=4, wait=0.05), retry=Retry(attempts=2, backoff=fixed(0.05)))
        def handle(numbers: list[Number], deliveries: list[Delivery]) -> None:
            failures: dict[int, BaseException] = {}
            for place, (number, delivery) in enumerate(zip(numbers, deliveries, strict=True)):
                seen.add((number.value, delivery.attempt))
                if number.value == 1 and delivery.attempt == 1:
                    failures[place] = RuntimeError("not yet")
                if number.value == 2:
                    failures[place] = Reject("never")
            if failures:
                raise BatchError(failures)

        bus.start().publish_many(event(number) for number in range(4))
        dead = stage.outside().dead_letters(stage.queue_of(event)).messages(1)
        assert dead[0].headers["eventbus-dead-reason"] == "never"
        assert sorted(seen.wait(5)) == [(0, 1), (1, 1), (1, 2), (2, 1), (3, 1)]

    def test_members_may_be_settled_by_hand_and_the_rest_by_the_handler_s_outcome(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[tuple[int, int]](), stage.bus()

        @bus.subscribe(event, batch=Batch(size=3, wait=0.05), retry=AT_ONCE)
        def handle(numbers: list[Number], deliveries: list[Delivery]) -> None:
            for number, delivery in zip(numbers, deliveries, strict=True):
                seen.add((number.value, delivery.attempt))
                if number.value == 0:
                    stage.runner.call(delivery.ack)
                if number.value == 1:
                    stage.runner.call(delivery.dead_letter, "by hand")
            if numbers[0].value == 0:
                raise RuntimeError("the rest")

        bus.start().publish_many(event(number) for number in range(3))
        dead = stage.outside().dead_letters(stage.queue_of(event)).messages(1)
        assert dead[0].headers["eventbus-dead-reason"] == "by hand"
        assert sorted(seen.wait(4)) == [(0, 1), (1, 1), (2, 1), (2, 2)]

    def test_an_undecodable_member_is_dead_lettered_alone(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[list[int]](), stage.bus()

        @bus.subscribe(event, batch=Batch(size=3, wait=30.0))
        def handle(numbers: list[Number]) -> None:
            seen.add([number.value for number in numbers])

        outside = stage.outside()
        bus.start().publish(event(1))
        bad = bus.real.message(event(2))
        outside.publish(outside.message(exchange=bad.exchange, topic=bad.topic, type=bad.type, source="x", body=b"{"))
        bus.publish(event(3))
        assert seen.wait() == [[1, 3]]
        assert outside.dead_letters(stage.queue_of(event)).messages(1)[0].body == b"{"

    def test_middleware_sees_each_member_with_its_own_outcome(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[str]()
        bus = stage.bus(middleware=[Around(seen)])

        @bus.subscribe(event, batch=Batch(size=4, wait=30.0), retry=Retry(attempts=1))
        def handle(numbers: list[Number]) -> None:
            assert [number.value for number in numbers] == [1, 2, 4]
            raise BatchError({1: ValueError("two")})

        bus.start()
        for number in range(1, 5):
            bus.publish(event(number), headers={"n": number})
        assert sorted(seen.wait(11)) == sorted(
            ["received 1", "received 2", "received 3", "received 4", "1 done", "2 failed: two", "4 done",
             "1 Ack", "2 DeadLetter", "3 DeadLetter", "4 Ack"]
        )  # fmt: skip

    def test_a_batch_of_several_types_and_what_else_its_handler_may_take(self, stage: Stage) -> None:
        number, word, seen = stage.event(Number), stage.event(Word), Seen[Any]()
        bus = stage.bus()

        @bus.subscribe(number, word, name="both", batch=Batch(size=2, wait=30.0))
        def handle(events: list[Any], context: Context, name: Annotated[str, Depends(subscription)]) -> None:
            seen.add((events, len(context.deliveries), name))

        bus.start().publish(number(1))
        bus.publish(word("w"))
        assert seen.wait() == [([number(1), word("w")], 2, f"{stage.service}.both")]

    def test_stopping_gives_back_a_batch_that_is_not_full(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[list[int]](), stage.bus()

        @bus.subscribe(event, batch=Batch(size=10, wait=60.0))
        def handle(numbers: list[Number]) -> None:
            seen.add([number.value for number in numbers])

        bus.start().publish_many(event(number) for number in range(4))
        eventually(lambda: bus.real._runtime.parked == 4)
        began = time.monotonic()
        assert bus.stop().clean
        assert time.monotonic() - began < 4.0
        again, later = stage.bus(), Seen[int]()

        @again.subscribe(event)
        def note(number: Number) -> None:
            later.add(number.value)

        again.start()
        assert sorted(later.wait(4)) == [0, 1, 2, 3]
        assert seen.all == []

    def test_stopping_waits_for_a_batch_at_work_and_gives_the_rest_back_at_once(self, stage: Stage) -> None:
        event, begun, go, ended = stage.event(Number), threading.Event(), threading.Event(), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event, batch=Batch(size=3, wait=0.05))
        def handle(numbers: list[Number]) -> None:
            begun.set()
            go.wait(10)
            ended.all.extend(number.value for number in numbers)

        bus.start().publish_many(event(number) for number in range(3))
        assert begun.wait(10)
        bus.publish_many(event(number) for number in range(3, 5))
        eventually(lambda: bus.real._runtime.parked == 2)
        reports: list[Any] = []
        stopping = threading.Thread(target=lambda: reports.append(bus.stop(10.0)))
        stopping.start()
        other, rest = stage.bus(), Seen[int]()

        @other.subscribe(event)
        def note(number: Number) -> None:
            rest.add(number.value)

        other.start()
        assert sorted(rest.wait(2)) == [3, 4], "before the batch at work ends"
        assert stopping.is_alive()
        go.set()
        stopping.join(10)
        assert ended.all == [0, 1, 2]
        assert reports[0].clean

    @needs("disconnect")
    def test_after_a_lost_connection_no_member_is_lost_and_a_part_of_a_batch_comes_again(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[int](), stage.bus()

        @bus.subscribe(event, batch=Batch(size=6, wait=60.0))
        def handle(numbers: list[Number]) -> None:
            seen.all.extend(number.value for number in numbers)

        bus.start().publish_many(event(number) for number in range(4))
        eventually(lambda: bus.real._runtime.parked == 4)
        stage.suite.disconnect(stage.transport)
        eventually(lambda: bus.real._runtime.parked == 0 or bus.health().reconnects > 0, 20)
        bus.wait_ready()
        bus.publish_many(event(number) for number in range(4, 6))
        eventually(lambda: sorted(seen.all) == list(range(6)), 20)
