"""Requests: asking, from the requester's side."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from eventbus._errors import DecodingError, NoResponder, RemoteError, RequestTimeout
from eventbus.testing._eventually import eventually
from eventbus.testing._features import needs
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Double, Number, Seen


class Requests:
    """Answers find their caller, and every wait ends."""

    def test_an_answer_comes_with_its_declared_type(self, stage: Stage) -> None:
        request, asking = stage.event(Double), stage.event(Number, reply=Number, topic="asking")
        bus = stage.bus()
        bus.respond(request)(lambda asked: 2 * asked.value)

        @bus.respond(asking)
        def answer(asked: Number) -> Number:
            return Number(asked.value + 1, "answer")

        bus.start()
        assert bus.request(request(21)) == 42
        assert bus.request(asking(1)) == Number(2, "answer")
        assert bus.request(asking(1), reply=dict[str, Any]) == {"value": 2, "kind": "answer"}

    def test_another_bus_may_ask(self, stage: Stage) -> None:
        request = stage.event(Double)
        responder, caller = stage.bus(), stage.bus(service=stage.name("caller"))
        responder.respond(request)(lambda asked: 2 * asked.value)
        responder.start()
        assert caller.request(request(4)) == 8

    def test_a_hundred_requests_at_once_each_get_their_own_answer(self, stage: Stage) -> None:
        request = stage.event(Double)
        responder, caller = stage.bus(), stage.bus(service=stage.name("caller"))
        responder.respond(request, concurrency=5)(lambda asked: 2 * asked.value)
        responder.start()
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda n: caller.request(request(n)), range(100)))
        assert answers == [2 * n for n in range(100)]
        assert caller.health().requests_in_flight == 0

    def test_without_a_responder_the_requester_is_told_at_once(self, stage: Stage) -> None:
        request, bus = stage.event(Double), stage.bus().start()
        with pytest.raises(NoResponder):
            bus.request(request(1), timeout=30.0)
        with pytest.raises(NoResponder):
            bus.request_many(request(1), timeout=30.0)

    def test_after_the_last_responder_has_gone_the_requester_is_told_at_once(self, stage: Stage) -> None:
        request = stage.event(Double)
        responder, caller = stage.bus(), stage.bus(service=stage.name("caller"))
        responder.respond(request)(lambda asked: 2 * asked.value)
        responder.start()
        assert caller.request(request(1)) == 2
        responder.stop()

        def nobody_answers() -> bool:
            try:
                caller.request(request(1), timeout=0.3)
            except NoResponder:
                return True
            except RequestTimeout:
                return False
            return False

        eventually(nobody_answers)

    def test_a_request_without_answer_ends_at_its_timeout(self, stage: Stage) -> None:
        request, go = stage.event(Double), threading.Event()
        bus = stage.bus()

        @bus.respond(request)
        def answer(asked: Double) -> int:
            go.wait(10)
            return 0

        bus.start()
        began = time.monotonic()
        with pytest.raises(RequestTimeout):
            bus.request(request(1), timeout=0.2)
        assert 0.19 <= time.monotonic() - began < 2.0
        assert bus.health().requests_in_flight == 0
        go.set()

    def test_a_late_answer_is_dropped_and_counted(self, stage: Stage) -> None:
        request, go = stage.event(Double), threading.Event()
        bus = stage.bus()

        @bus.respond(request)
        def answer(asked: Double) -> int:
            if asked.value == 0:
                go.wait(10)
            return asked.value

        bus.start()
        bus.request(request(1))  # from now on there is a reply queue, which a short timeout could not wait for
        with pytest.raises(RequestTimeout):
            bus.request(request(0), timeout=0.1)
        go.set()
        eventually(lambda: bus.health().replies_dropped == 1)
        assert bus.request(request(3)) == 3

    def test_a_responder_s_error_arrives_as_data(self, stage: Stage) -> None:
        request, bus, runs = stage.event(Double), stage.bus(), Seen[int]()

        @bus.respond(request)
        def answer(asked: Double) -> int:
            runs.add(1)
            raise LookupError("no quote\nfor you")

        bus.start()
        with pytest.raises(RemoteError) as caught:
            bus.request(request(1))
        assert (caught.value.type_name, caught.value.message) == ("LookupError", "no quote for you")
        assert runs.all == [1], "a failed request is not tried again: the requester decides"

    def test_an_answer_that_does_not_fit_is_an_error(self, stage: Stage) -> None:
        request, bus = stage.event(Double), stage.bus()
        bus.respond(request)(lambda asked: "text")
        bus.start()
        with pytest.raises(DecodingError):
            bus.request(request(1))

    def test_request_many_gathers_answers_of_all_groups(self, stage: Stage) -> None:
        request = stage.event(Double)
        for group, factor in (("two", 2), ("three", 3)):
            bus = stage.bus(service=stage.name(group))
            bus.respond(request)(lambda asked, factor=factor: factor * asked.value)
            bus.start()
        caller = stage.bus(service=stage.name("caller"))
        assert sorted(caller.request_many(request(10), count=2)) == [20, 30]
        assert sorted(caller.request_many(request(10), timeout=0.3)) == [20, 30]

    def test_request_many_keeps_the_answers_when_one_responder_fails(self, stage: Stage) -> None:
        request = stage.event(Double)
        good, bad = stage.bus(service=stage.name("good")), stage.bus(service=stage.name("bad"))
        good.respond(request)(lambda asked: 2 * asked.value)

        @bad.respond(request)
        def fail(asked: Double) -> int:
            raise RuntimeError("no")

        good.start()
        bad.start()
        answers = good.request_many(request(1), count=2)
        assert sorted(type(answer).__name__ for answer in answers) == ["RemoteError", "int"]

    @needs("direct-reply")
    def test_direct_replies_find_their_caller_too(self, stage: Stage) -> None:
        request = stage.event(Double)
        responder, caller = stage.bus(), stage.bus(service=stage.name("caller"), reply="direct")
        responder.respond(request)(lambda asked: 2 * asked.value)
        responder.start()
        with ThreadPoolExecutor(10) as pool:
            assert list(pool.map(lambda n: caller.request(request(n)), range(30))) == [2 * n for n in range(30)]
        with pytest.raises(NoResponder):
            caller.request(stage.event(Double, topic="nobody")(1))

    def test_a_responder_may_ask_another_one(self, stage: Stage) -> None:
        outer, inner = stage.event(Double, topic="outer"), stage.event(Number, topic="inner")
        bus = stage.bus()
        bus.respond(inner)(lambda asked: asked.value + 1)
        bus.respond(outer, name="outer")(lambda asked: bus.request(inner(asked.value)) * 2)
        bus.start()
        with ThreadPoolExecutor(5) as pool:
            assert list(pool.map(lambda n: bus.request(outer(n)), range(10))) == [2 * (n + 1) for n in range(10)]
