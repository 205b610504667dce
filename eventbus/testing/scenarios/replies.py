"""Replies: answering, and what strangers may send to a responder or a requester."""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec
import pytest

from eventbus._errors import RemoteError
from eventbus._topology import Binding, Queue, Topology
from eventbus.testing._eventually import eventually
from eventbus.testing._outside import Outside
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Double, Number, Seen


class Priced(msgspec.Struct, frozen=True):
    """An answer that is no event."""

    price: int


class Replies:
    """Kinds of answers; expired, forged and repeated messages."""

    def _impostor(self, stage: Stage, outside: Outside, topic: str) -> Any:
        """A consumer outside that gets the requests."""
        name = stage.name("impostor")
        binding = Binding(exchange=stage.exchange.name, queue=name, pattern=topic)
        queue = Queue(name=name, type="classic", auto_delete=True)
        topology = Topology(exchanges=(stage.exchange,), queues=(queue,), bindings=(binding,))
        return outside.consume(queue, topology=topology)

    def test_an_answer_may_be_a_plain_value_a_struct_or_nothing(self, stage: Stage) -> None:
        request, bus = stage.event(Double), stage.bus()
        answers: list[Any] = [{"a": [1, None]}, Priced(5), [1, 2], "text", None]
        bus.respond(request)(lambda asked: answers[asked.value])
        bus.start()
        found = [bus.request(request(n), reply=Any) for n in range(len(answers))]
        assert found == [{"a": [1, None]}, {"price": 5}, [1, 2], "text", None]
        assert bus.request(request(1), reply=Priced) == Priced(5)

    def test_an_answer_that_cannot_be_encoded_is_an_error_at_the_requester(self, stage: Stage) -> None:
        request, bus = stage.event(Double), stage.bus()
        bus.respond(request)(lambda asked: object())
        bus.start()
        with pytest.raises(RemoteError):
            bus.request(request(1), timeout=5.0)

    def test_a_repeated_answer_is_dropped_and_counted(self, stage: Stage) -> None:
        request, outside = stage.event(Double), stage.outside()
        asked = self._impostor(stage, outside, "double")
        bus, answers = stage.bus(), Seen[Any]()
        thread = threading.Thread(target=lambda: answers.add(bus.request(request(1))))
        thread.start()
        message = asked.messages()[0]
        for body in (b"7", b"8"):
            reply = outside.message(topic=message.reply_to, correlation_id=message.correlation_id, body=body)
            assert outside.publish(reply) is None
        thread.join(10)
        assert answers.all == [7]
        eventually(lambda: bus.health().replies_dropped == 1)

    def test_an_answer_with_a_forged_correlation_id_is_dropped(self, stage: Stage) -> None:
        request, outside = stage.event(Double), stage.outside()
        asked = self._impostor(stage, outside, "double")
        bus, answers = stage.bus(), Seen[Any]()
        thread = threading.Thread(target=lambda: answers.add(bus.request(request(1))))
        thread.start()
        message = asked.messages()[0]
        assert len(message.correlation_id or "") >= 22, "128 bits cannot be guessed"
        outside.publish(outside.message(topic=message.reply_to, correlation_id="guessed", body=b"666"))
        outside.publish(outside.message(topic=message.reply_to, correlation_id=message.correlation_id, body=b"2"))
        thread.join(10)
        assert answers.all == [2]
        assert bus.health().replies_dropped == 1

    def test_an_expired_request_is_not_run(self, stage: Stage) -> None:
        request, runs, outside = stage.event(Double), Seen[int](), stage.outside()
        bus = stage.bus()

        @bus.respond(request)
        def answer(asked: Double) -> int:
            runs.add(asked.value)
            return asked.value

        bus.start()
        past = int((time.time() - 5) * 1000)
        message = outside.message(
            exchange=stage.exchange.name, topic="double", body=b'{"value":666}', headers={"eventbus-deadline": past}
        )
        assert outside.publish(message) is None
        assert bus.request(request(1)) == 1
        assert runs.all == [1]

    def test_a_reply_address_that_is_no_reply_queue_is_refused(self, stage: Stage) -> None:
        request, runs, outside = stage.event(Double), Seen[int](), stage.outside()
        victim = outside.consume(Queue(name=stage.name("victim"), type="classic", auto_delete=True))
        bus = stage.bus()

        @bus.respond(request)
        def answer(asked: Double) -> int:
            runs.add(asked.value)
            return asked.value

        bus.start()
        message = outside.message(
            exchange=stage.exchange.name, topic="double", body=b'{"value":666}', reply_to=stage.name("victim")
        )
        assert outside.publish(message) is None
        assert bus.request(request(1)) == 1
        assert runs.all == [1]
        assert victim.all == []

    def test_a_further_reply_address_may_be_allowed(self, stage: Stage) -> None:
        request, outside = stage.event(Double), stage.outside()
        answers = outside.consume(Queue(name=stage.name("answers"), type="classic", auto_delete=True))
        bus = stage.bus(reply_addresses=[stage.name("answers")])
        bus.respond(request)(lambda asked: asked.value)
        bus.start()
        message = outside.message(
            exchange=stage.exchange.name, topic="double", body=b'{"value":5}',
            reply_to=stage.name("answers"), correlation_id="mine",
        )  # fmt: skip
        assert outside.publish(message) is None
        reply = answers.messages()[0]
        assert (reply.body, reply.correlation_id) == (b"5", "mine")

    def test_a_request_without_reply_address_is_run_all_the_same(self, stage: Stage) -> None:
        request, runs, outside = stage.event(Double), Seen[Number | Double](), stage.outside()
        bus = stage.bus()

        @bus.respond(request)
        def answer(asked: Double) -> int:
            runs.add(asked)
            return asked.value

        bus.start()
        outside.publish(outside.message(exchange=stage.exchange.name, topic="double", body=b'{"value":5}'))
        assert runs.wait() == [request(5)]
