"""Losses: consumers that die, connections that are cut, brokers that restart."""

from __future__ import annotations

import threading

import pytest

from eventbus._delivery import Delivery
from eventbus._errors import RequestError
from eventbus._topology import Queue
from eventbus.testing._eventually import eventually
from eventbus.testing._features import needs
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Double, Number, Seen, noting

LIMIT = 2


class Losses:
    """Nothing confirmed is lost, and everybody goes on by itself."""

    def test_what_a_dead_consumer_left_unsettled_is_delivered_again(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[tuple[int, bool]]()
        bus, dying = stage.bus(), stage.outside()

        @bus.subscribe(event, queue=Queue(name=stage.name("shared")))
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add((number.value, delivery.redelivered))

        held = dying.consume(Queue(name=stage.name("shared")), settle=False, topology=bus.real.topology())
        stage.bus(service=stage.name("publisher")).publish_many(event(n) for n in range(3))
        held.wait(3)
        bus.start()
        dying.close()
        assert sorted(seen.wait(3)) == [(0, True), (1, True), (2, True)]

    @needs("counts-crashes")
    def test_an_arrival_that_nobody_settled_counts_as_an_attempt(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[int]()
        bus, dying = stage.bus(), stage.outside()

        @bus.subscribe(event, queue=Queue(name=stage.name("shared")))
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add(delivery.attempt)

        held = dying.consume(Queue(name=stage.name("shared")), settle=False, topology=bus.real.topology())
        stage.bus(service=stage.name("publisher")).publish(event(1))
        held.wait()
        dying.close()
        bus.start()
        assert seen.wait() == [2]

    @needs("counts-crashes")
    def test_a_message_that_kills_its_consumers_is_dead_lettered_at_the_limit(self, stage: Stage) -> None:
        name = stage.name("deadly")
        queue = Queue(name=name, dead_letter=f"{name}.dead", delivery_limit=LIMIT)
        outside = stage.outside()
        for arrival in range(LIMIT + 1):
            dying = stage.outside()
            held = dying.consume(queue, settle=False)
            if arrival == 0:
                assert outside.publish(outside.message(topic=name, body=b'"deadly"')) is None
            held.wait()
            dying.close()
        dead = outside.dead_letters(name).messages()[0]
        assert dead.body == b'"deadly"'
        assert dead.headers["x-first-death-reason"] == "delivery_limit"

    @needs("disconnect")
    def test_after_a_lost_connection_the_bus_publishes_and_handles_again(self, stage: Stage) -> None:
        event, seen, copies = stage.event(Number), Seen[int](), Seen[Number]()
        bus = stage.bus()

        @bus.subscribe(event)
        def handle(number: Number) -> None:
            seen.add(number.value)

        bus.subscribe(event, broadcast=True, name="copies")(noting(copies))
        bus.start().publish(event(1))
        seen.wait()
        copies.wait()
        stage.suite.disconnect(stage.transport)
        eventually(lambda: bus.health().reconnects >= 1, 20)
        bus.wait_ready(20)
        bus.publish(event(2))
        # The first may come twice: its ack may have been lost with the connection.
        eventually(lambda: set(seen.all) == {1, 2})
        eventually(lambda: event(2) in copies.all)
        eventually(lambda: bus.health().status == "ready")

    @needs("disconnect")
    def test_a_handler_that_runs_through_a_lost_connection_is_not_cancelled(self, stage: Stage) -> None:
        event, begun, go = stage.event(Number), threading.Event(), threading.Event()
        seen = Seen[bool]()
        bus = stage.bus()

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            begun.set()
            go.wait(20)
            seen.add(delivery.redelivered)

        bus.start().publish(event(1))
        assert begun.wait(10)
        stage.suite.disconnect(stage.transport)
        eventually(lambda: bus.health().reconnects >= 1, 20)
        bus.wait_ready(20)
        go.set()
        assert seen.wait(2) == [False, True]
        eventually(lambda: bus.health().settlements_dropped == 1)

    @needs("disconnect")
    def test_pending_requests_end_at_once_when_the_connection_is_lost(self, stage: Stage) -> None:
        request, begun, go = stage.event(Double), threading.Event(), threading.Event()
        bus = stage.bus()

        @bus.respond(request)
        def answer(asked: Double) -> int:
            if asked.value == 0:
                begun.set()
                go.wait(20)
            return 2 * asked.value

        bus.start()
        errors: list[BaseException] = []

        def ask() -> None:
            with pytest.raises(RequestError) as caught:
                bus.request(request(0), timeout=30.0)
            errors.append(caught.value)

        thread = threading.Thread(target=ask)
        thread.start()
        assert begun.wait(10)
        stage.suite.disconnect(stage.transport)
        thread.join(15)
        go.set()
        assert [type(error).__name__ for error in errors] == ["RequestLost"]
        bus.wait_ready(20)
        assert bus.request(request(4), timeout=10.0) == 8

    @needs("restart")
    def test_confirmed_events_outlive_a_restart_of_the_broker(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()
        consumer = stage.bus()
        consumer.subscribe(event)(noting(seen))
        consumer.start().stop()
        publisher = stage.bus(service=stage.name("publisher"))
        publisher.publish_many(event(n) for n in range(20))
        stage.suite.restart_broker()
        again = stage.bus()
        again.subscribe(event)(noting(seen))
        again.start(timeout=30.0)
        assert sorted(e.value for e in seen.wait(20, 30.0)) == list(range(20))
        publisher.publish(event(99), timeout=30.0)
        assert seen.wait(21)[-1] == event(99)
