"""Life of a bus: starting, health, draining, stopping."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from eventbus._batch import Batch
from eventbus._delivery import Delivery
from eventbus._errors import TopologyMismatch
from eventbus._topology import Queue
from eventbus.testing._eventually import eventually
from eventbus.testing._facade import LOOP_THREADS, AsyncRunner
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Double, Number, Seen, Word, noting


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith(LOOP_THREADS)}


class Lifecycle:
    """Everything is idempotent and bounded, and nothing leaks."""

    def test_health_tells_the_state(self, stage: Stage) -> None:
        event, bus = stage.event(Number), stage.bus()
        bus.subscribe(event)(noting(Seen()))
        assert bus.health().status == "stopped"
        health = bus.start().health()
        assert (health.status, health.connected) == ("ready", True)
        assert health.consumers == {stage.queue_of(event): "ready"}
        bus.stop()
        assert bus.health().status == "stopped"

    def test_health_counts_what_is_in_flight(self, stage: Stage) -> None:
        event, go, bus = stage.event(Number), threading.Event(), stage.bus()

        @bus.subscribe(event, concurrency=2)
        def handle(number: Number) -> None:
            go.wait(10)

        bus.start().publish_many([event(1), event(2)])
        eventually(lambda: bus.health().handlers_in_flight == 2)
        go.set()
        eventually(lambda: bus.health().handlers_in_flight == 0)
        assert bus.health().publishes_in_flight == 0

    def test_publishing_before_start_connects_on_first_use(self, stage: Stage) -> None:
        bus = stage.bus()
        bus.publish(stage.event(Number)(1))
        assert bus.health().connected

    def test_starting_and_stopping_twice_does_no_harm(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[Number](), stage.bus()
        bus.subscribe(event)(noting(seen))
        bus.start().start().publish(event(1))
        seen.wait()
        assert bus.stop().clean
        assert bus.stop().clean
        assert seen.all == [event(1)]

    def test_a_stopped_bus_may_be_started_again(self, stage: Stage) -> None:
        event, seen, bus = stage.event(Number), Seen[Number](), stage.bus()
        bus.subscribe(event)(noting(seen))
        bus.start().publish(event(1))
        seen.wait()
        bus.stop()
        bus.start().publish(event(2))
        assert seen.wait(2) == [event(1), event(2)]

    def test_stopping_waits_for_running_handlers(self, stage: Stage) -> None:
        event, begun, go, ended = stage.event(Number), threading.Event(), threading.Event(), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event)
        def handle(number: Number) -> None:
            begun.set()
            go.wait(10)
            ended.add(number.value)

        bus.start().publish(event(1))
        assert begun.wait(10)
        reports: list[Any] = []
        stopping = threading.Thread(target=lambda: reports.append(bus.stop(10.0)))
        stopping.start()
        stopping.join(0.05)
        assert stopping.is_alive()
        go.set()
        stopping.join(10)
        assert ended.all == [1]
        assert reports[0].clean
        again, seen = stage.bus(), Seen[Any]()
        again.subscribe(event)(noting(seen))
        again.start().publish(event(2))
        assert seen.wait() == [event(2)], "the handled message was acknowledged"

    def test_stopping_gives_back_what_no_handler_has_begun(self, stage: Stage) -> None:
        event, begun, go, ended = stage.event(Number), threading.Event(), threading.Event(), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event, prefetch=10)
        def handle(number: Number) -> None:
            begun.set()
            go.wait(10)
            ended.add(number.value)

        bus.start().publish_many(event(n) for n in range(5))
        assert begun.wait(10)
        stopping = threading.Thread(target=bus.stop)
        stopping.start()
        other, rest = stage.bus(), Seen[int]()

        @other.subscribe(event)
        def take(number: Number, delivery: Delivery) -> None:
            rest.add(number.value)

        other.start()
        assert sorted(rest.wait(4)) == [1, 2, 3, 4], "the others are handled before the first one ends"
        go.set()
        stopping.join(10)
        assert ended.all == [0]

    def test_a_handler_may_publish_while_the_bus_drains(self, stage: Stage) -> None:
        event, result = stage.event(Number), stage.event(Word)
        begun, go, seen, errors = threading.Event(), threading.Event(), Seen[Word](), Seen[Exception]()
        bus, listener = stage.bus(), stage.bus(service=stage.name("listener"))
        listener.subscribe(result)(noting(seen))
        listener.start()

        @bus.subscribe(event)
        def handle(number: Number) -> None:
            begun.set()
            go.wait(10)
            try:
                bus.publish(result("done"))
            except Exception as error:
                errors.add(error)

        bus.start().publish(event(1))
        assert begun.wait(10)
        stopping = threading.Thread(target=bus.stop)
        stopping.start()
        stopping.join(0.05)
        go.set()
        stopping.join(10)
        assert errors.all == []
        assert seen.wait() == [result("done")]

    def test_a_responder_answers_what_it_has_begun_while_the_bus_drains(self, stage: Stage) -> None:
        request, begun, go = stage.event(Double), threading.Event(), threading.Event()
        responder, caller = stage.bus(), stage.bus(service=stage.name("caller"))

        @responder.respond(request)
        def answer(asked: Double) -> int:
            begun.set()
            go.wait(10)
            return 2 * asked.value

        responder.start()
        answers = Seen[Any]()
        asking = threading.Thread(target=lambda: answers.add(caller.request(request(3))))
        asking.start()
        assert begun.wait(10)
        stopping = threading.Thread(target=responder.stop)
        stopping.start()
        stopping.join(0.05)
        go.set()
        stopping.join(10)
        asking.join(10)
        assert answers.all == [6]

    def test_a_handler_may_ask_while_the_bus_drains(self, stage: Stage) -> None:
        event, request = stage.event(Number), stage.event(Double)
        begun, go, answers = threading.Event(), threading.Event(), Seen[Any]()
        bus, responder = stage.bus(), stage.bus(service=stage.name("responder"))

        @responder.respond(request)
        def answer(asked: Double) -> int:
            if asked.value == 0:
                begun.set()
                go.wait(10)
            return 2 * asked.value + 1

        @bus.subscribe(event)
        def handle(number: Number) -> None:
            try:
                answers.add(bus.request(request(0), timeout=3.0))
                answers.add(bus.request(request(1), timeout=3.0))
            except Exception as error:
                answers.add(error)

        responder.start()
        bus.start().publish(event(1))
        assert begun.wait(10)
        stopping = threading.Thread(target=bus.stop)
        stopping.start()
        eventually(lambda: bus.health().status == "draining")
        stopping.join(0.05)
        go.set()
        stopping.join(10)
        assert answers.all == [1, 3]

    def test_a_queue_with_other_properties_fails_alone(self, stage: Stage) -> None:
        wrong, right, seen = stage.event(Number), stage.event(Word), Seen[Word]()
        stage.outside().consume(Queue(name=stage.queue_of(wrong), type="classic", max_length=5))
        bus = stage.bus()
        bus.subscribe(wrong)(noting(Seen()))
        bus.subscribe(right)(noting(seen))
        with pytest.raises(TopologyMismatch):
            bus.start()
        eventually(lambda: bus.health().consumers.get(stage.queue_of(right)) == "ready")
        bus.publish(right("w"), mandatory=True)
        assert seen.wait() == [right("w")]
        health = bus.health()
        assert health.status == "degraded"
        assert set(health.errors) == {stage.queue_of(wrong)}

    def test_stopping_is_bounded_though_a_handler_never_ends(self, stage: Stage) -> None:
        event, begun, go, bus = stage.event(Number), threading.Event(), threading.Event(), stage.bus()

        @bus.subscribe(event)
        def handle(number: Number) -> None:
            begun.set()
            go.wait(20)

        bus.start().publish(event(1))
        assert begun.wait(10)
        began = time.monotonic()
        report = bus.stop(0.2)
        assert time.monotonic() - began < 3.0
        assert report.abandoned == 1
        go.set()
        again, seen = stage.bus(), Seen[Any]()
        again.subscribe(event)(noting(seen))
        again.start()
        assert seen.wait() == [event(1)], "what was not finished is delivered again"

    def test_stopping_is_bounded_though_a_batch_never_ends(self, stage: Stage) -> None:
        event, begun, go, bus = stage.event(Number), threading.Event(), threading.Event(), stage.bus()

        @bus.subscribe(event, batch=Batch(size=2, wait=0.05))
        def handle(numbers: list[Number]) -> None:
            begun.set()
            go.wait(20)

        bus.start().publish_many([event(0), event(1)])
        assert begun.wait(10)
        began = time.monotonic()
        report = bus.stop(0.2)
        assert time.monotonic() - began < 3.0
        assert report.abandoned == 1
        go.set()
        again, seen = stage.bus(), Seen[int]()

        @again.subscribe(event)
        def note(number: Number) -> None:
            seen.add(number.value)

        again.start()
        assert sorted(seen.wait(2)) == [0, 1], "what was not finished is delivered again"

    def test_two_buses_on_one_transport_live_side_by_side(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Number]()
        first, second = stage.bus(), stage.bus(service=stage.name("second"))
        second.subscribe(event)(noting(seen))
        second.start()
        first.publish(event(1))
        first.stop()
        assert seen.wait() == [event(1)]
        second.publish(event(2))
        assert seen.wait(2) == [event(1), event(2)]

    def test_a_stopped_bus_leaves_no_thread_and_no_task(self, stage: Stage) -> None:
        event, request, seen = stage.event(Number), stage.event(Double), Seen[Number]()
        runner = stage.runner
        before = _threads()
        tasks = runner.tasks() if isinstance(runner, AsyncRunner) else 0
        bus = stage.bus()
        bus.subscribe(event, concurrency=4, timeout=5.0)(noting(seen))
        bus.respond(request)(lambda asked: asked.value)
        bus.start().publish_many(event(n) for n in range(20))
        assert bus.request(request(1)) == 1
        seen.wait(20)
        assert bus.stop().clean
        eventually(lambda: not _threads() - before, what=f"the end of all threads but {before}")
        if isinstance(runner, AsyncRunner):
            eventually(lambda: runner.tasks() <= tasks, what="the end of all tasks")
