"""The rules of queues, one by one, on a broker whose clock the test holds."""

from __future__ import annotations

from typing import Any

import pytest
from eventbus_memory import Consumer, ManualClock, MemoryBroker

from eventbus import ConfigurationError
from eventbus._errors import AccessRefused, ExchangeMissing, Rejected, TopologyMismatch, Unroutable
from eventbus.transport import (
    Ack,
    Binding,
    DeadLetter,
    Exchange,
    Incoming,
    Message,
    Queue,
    Requeue,
    RetryIn,
)


class Bench:
    """A broker, a clock, and consumers that note what comes."""

    def __init__(self, *queues: Queue, queue_type: Any = "classic") -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(clock=self.clock, queue_type=queue_type)
        self.arrived: list[Incoming] = []
        for queue in queues:
            self.broker.declare(queue)

    def publish(self, body: str, *, queue: str = "q", **options: Any) -> Exception | None:
        message = Message(exchange="", topic=queue, body=body.encode(), id=body, type="t", **options)
        return self.broker.publish_raw(message)

    def consumer(self, name: str = "c", *, queue: str = "q", **options: Any) -> Consumer:
        consumer = Consumer(name, deliver=self.arrived.append, **options)
        self.broker.consume(queue, consumer)
        return consumer

    def waiting(self, queue: str = "q") -> list[str]:
        return [message.body.decode() for message in self.broker.messages(queue)]

    @property
    def bodies(self) -> list[str]:
        return [incoming.message.body.decode() for incoming in self.arrived]

    def settle(self, position: int, settlement: Any) -> bool:
        return self.broker.settle(self.arrived[position], settlement)


# -- topology -----------------------------------------------------------------------------------------------


def test_a_queue_with_other_properties_is_refused_and_the_difference_named() -> None:
    bench = Bench(Queue(name="q", max_length=5))
    with pytest.raises(TopologyMismatch, match="max_length is 5, not 6"):
        bench.broker.declare(Queue(name="q", max_length=6))


def test_arguments_say_the_same_as_fields() -> None:
    bench = Bench(Queue(name="q", max_length=5, message_ttl=1.5))
    bench.broker.declare(Queue(name="q", arguments={"x-max-length": 5, "x-message-ttl": 1500}))


def test_an_exchange_of_another_kind_is_refused_and_the_difference_named() -> None:
    bench = Bench()
    bench.broker.declare(Exchange(name="e", kind="topic"))
    with pytest.raises(TopologyMismatch, match="kind is 'topic', not 'fanout'"):
        bench.broker.declare(Exchange(name="e", kind="fanout"))


def test_names_of_the_broker_itself_are_refused() -> None:
    with pytest.raises(AccessRefused):
        Bench(Queue(name="amq.mine"))
    with pytest.raises(AccessRefused):
        Bench().broker.declare(Exchange(name="amq.mine"))


@pytest.mark.parametrize(
    "queue",
    [
        Queue(name="q", type="quorum", exclusive=True),
        Queue(name="q", type="quorum", durable=False),
        Queue(name="q", type="quorum", max_priority=3),
        Queue(name="q", max_priority=0),
        Queue(name="q", arguments={"x-queue-type": "stream"}),
    ],
)
def test_what_rabbitmq_would_refuse_is_refused(queue: Queue) -> None:
    with pytest.raises(ConfigurationError):
        Bench(queue)


def test_a_queue_that_cannot_be_a_quorum_queue_is_classic() -> None:
    bench = Bench(Queue(name="plain"), Queue(name="auto", auto_delete=True), queue_type="quorum")
    assert bench.broker.queue("plain").type == "quorum"
    assert bench.broker.queue("auto").type == "classic"


def test_a_dead_letter_queue_is_declared_beside_its_queue() -> None:
    assert "q.dead" in Bench(Queue(name="q", dead_letter="q.dead")).broker.queues()


def test_an_auto_delete_exchange_goes_with_its_last_binding() -> None:
    bench = Bench(Queue(name="q"))
    bench.broker.declare(Exchange(name="e", auto_delete=True))
    bench.broker.declare(Binding(exchange="e", queue="q", pattern="a"))
    bench.broker.delete_queue("q")
    assert "e" not in [exchange.name for exchange in bench.broker.exchanges()]


# -- publishing ---------------------------------------------------------------------------------------------


def test_a_message_comes_once_to_each_queue_however_many_bindings_lead_there() -> None:
    bench = Bench(Queue(name="q"), Queue(name="r"))
    bench.broker.declare(Exchange(name="e"))
    for queue, pattern in (("q", "a.*"), ("q", "a.#"), ("r", "#")):
        bench.broker.declare(Binding(exchange="e", queue=queue, pattern=pattern))
    assert bench.broker.publish(Message(exchange="e", topic="a.b", body=b"x", id="1", type="t")) is None
    assert (bench.waiting("q"), bench.waiting("r")) == (["x"], ["x"])


def test_a_message_that_no_queue_takes_is_unroutable() -> None:
    assert isinstance(Bench().publish("x", queue="nowhere"), Unroutable)


def test_a_missing_exchange_is_told_and_an_internal_one_refuses() -> None:
    bench = Bench()
    bench.broker.declare(Exchange(name="inner", internal=True))
    for exchange, error in (("missing", ExchangeMissing), ("inner", Rejected)):
        message = Message(exchange=exchange, topic="t", body=b"", id="1", type="t")
        assert isinstance(bench.broker.publish(message), error)


def test_a_full_queue_refuses_or_drops_its_head() -> None:
    bench = Bench(
        Queue(name="refuses", max_length=1, arguments={"x-overflow": "reject-publish"}),
        Queue(name="drops", max_length=1, dead_letter="dead"),
    )
    for queue in ("refuses", "drops"):
        bench.publish("1", queue=queue)
    assert isinstance(bench.publish("2", queue="refuses"), Rejected)
    assert bench.publish("2", queue="drops") is None
    assert [bench.waiting(queue) for queue in ("refuses", "drops", "dead")] == [["1"], ["2"], ["1"]]
    assert bench.broker.messages("dead")[0].headers["x-death"][0]["reason"] == "maxlen"


def test_a_bounded_quorum_queue_with_dead_letters_refuses_when_full() -> None:
    bench = Bench(Queue(name="q", type="quorum", max_length=1, dead_letter="dead"))
    bench.publish("1")
    assert isinstance(bench.publish("2"), Rejected)


# -- delivering ---------------------------------------------------------------------------------------------


def test_consumers_take_turns_and_never_hold_more_than_their_prefetch() -> None:
    bench = Bench(Queue(name="q"))
    for name in ("a", "b"):
        bench.consumer(name, prefetch=2)
    for number in range(6):
        bench.publish(str(number))
    assert [incoming.consumer for incoming in bench.arrived] == ["a", "b", "a", "b"]
    bench.settle(1, Ack())
    assert [(i.consumer, i.message.body) for i in bench.arrived[4:]] == [("b", b"4")]


def test_what_comes_back_is_delivered_before_what_has_never_left() -> None:
    bench = Bench(Queue(name="q"))
    first = bench.consumer(prefetch=2)
    for body in "abc":
        bench.publish(body)
    bench.broker.drop(first)
    bench.consumer(prefetch=0)
    assert bench.bodies == ["a", "b", "a", "b", "c"]
    assert [i.redelivered for i in bench.arrived] == [False, False, True, True, False]


def test_higher_priorities_come_first() -> None:
    bench = Bench(Queue(name="q", max_priority=5))
    for body, priority in (("low", 1), ("none", None), ("high", 5), ("beyond", 200)):
        bench.publish(body, priority=priority)
    assert bench.waiting() == ["high", "beyond", "low", "none"]


def test_only_the_first_consumer_is_active_until_it_goes() -> None:
    bench = Bench(Queue(name="q", single_active_consumer=True))
    first, _second = bench.consumer("first", prefetch=1), bench.consumer("second", prefetch=5)
    for body in "ab":
        bench.publish(body)
    assert [i.consumer for i in bench.arrived] == ["first"]
    bench.broker.drop(first)
    assert [(i.consumer, i.message.body) for i in bench.arrived[1:]] == [("second", b"a"), ("second", b"b")]


def test_with_auto_ack_nothing_is_unsettled_and_settling_does_nothing() -> None:
    bench = Bench(Queue(name="q"))
    bench.consumer(prefetch=1, auto_ack=True)
    for body in "ab":
        bench.publish(body)
    assert bench.bodies == ["a", "b"]
    assert bench.broker.queue("q").unsettled == 0
    assert bench.settle(0, Ack())


def test_a_listener_that_publishes_is_not_called_within_itself() -> None:
    bench = Bench(Queue(name="q"))
    depth = [0]
    deepest = [0]

    def deliver(incoming: Incoming) -> None:
        depth[0] += 1
        deepest[0] = max(deepest[0], depth[0])
        bench.arrived.append(incoming)
        if len(bench.arrived) < 5:
            bench.publish(str(len(bench.arrived)))
        depth[0] -= 1

    bench.broker.consume("q", Consumer("c", deliver=deliver))
    bench.publish("0")
    assert (bench.bodies, deepest[0]) == (["0", "1", "2", "3", "4"], 1)


# -- settling -----------------------------------------------------------------------------------------------


def test_a_second_settlement_changes_nothing() -> None:
    bench = Bench(Queue(name="q"))
    bench.consumer()
    bench.publish("a")
    assert bench.settle(0, Ack())
    assert not bench.settle(0, Requeue())
    assert bench.bodies == ["a"]


def test_a_quorum_queue_counts_attempts_up_to_its_limit() -> None:
    bench = Bench(Queue(name="q", type="quorum", delivery_limit=2, dead_letter="dead"))
    bench.consumer()
    bench.publish("a")
    for position in range(3):
        bench.settle(position, Requeue())
    assert [i.attempt for i in bench.arrived] == [1, 2, 3]
    death = bench.broker.messages("dead")[0].headers["x-death"][0]
    assert (death["reason"], death["queue"], death["count"]) == ("delivery_limit", "q", 1)


def test_a_classic_queue_knows_only_that_it_delivered_before() -> None:
    bench = Bench(Queue(name="q", delivery_limit=1))
    bench.consumer()
    bench.publish("a")
    for position in range(3):
        bench.settle(position, Requeue())
    assert [i.attempt for i in bench.arrived] == [1, 2, 2, 2]


def test_a_quorum_queue_without_limit_puts_what_is_handed_back_at_its_end() -> None:
    bench = Bench(Queue(name="q", type="quorum"))
    bench.consumer(prefetch=1)
    for body in "ab":
        bench.publish(body)
    bench.settle(0, Requeue())
    assert bench.bodies == ["a", "b"]
    assert bench.waiting() == ["a"]


def test_a_retry_comes_back_after_its_delay_as_one_attempt_more() -> None:
    bench = Bench(Queue(name="q", type="quorum"))
    bench.broker.declare(Exchange(name="e"))
    bench.broker.declare(Binding(exchange="e", queue="q", pattern="#"))
    bench.consumer()
    bench.broker.publish(Message(exchange="e", topic="a.b", body=b"x", id="1", type="t", headers={"k": 1}))
    bench.settle(0, RetryIn(delay=5.0))
    assert bench.broker.queue("q").unsettled == 0
    bench.clock.advance(4.9)
    assert len(bench.arrived) == 1
    bench.clock.advance(0.1)
    again = bench.arrived[1]
    assert (again.attempt, again.message.exchange, again.message.topic) == (2, "e", "a.b")
    assert again.message.headers == {"k": 1}


def test_a_retry_without_delay_goes_to_the_end_of_the_queue() -> None:
    bench = Bench(Queue(name="q"))
    bench.consumer(prefetch=1)
    for body in "ab":
        bench.publish(body)
    bench.settle(0, RetryIn())
    bench.settle(1, Ack())
    assert [(i.message.body, i.attempt) for i in bench.arrived] == [(b"a", 1), (b"b", 1), (b"a", 2)]


def test_a_dead_letter_copy_carries_the_reason() -> None:
    bench = Bench(Queue(name="q", dead_letter="dead"))
    bench.consumer()
    bench.publish("a")
    bench.settle(0, DeadLetter(reason="no good"))
    dead = bench.broker.messages("dead")[0]
    assert (dead.body, dead.headers["eventbus-dead-reason"]) == (b"a", "no good")
    assert "x-death" not in dead.headers


def test_a_verbatim_dead_letter_is_moved_by_the_broker() -> None:
    bench = Bench(Queue(name="q", dead_letter="dead"))
    bench.consumer()
    bench.publish("a", headers={"k": 1})
    bench.settle(0, DeadLetter(reason="unreadable", verbatim=True))
    headers = bench.broker.messages("dead")[0].headers
    assert headers["x-death"][0]["reason"] == headers["x-first-death-reason"] == "rejected"
    assert "eventbus-dead-reason" not in headers


def test_without_a_dead_letter_queue_given_up_messages_are_dropped() -> None:
    bench = Bench(Queue(name="q"))
    bench.consumer()
    bench.publish("a")
    bench.settle(0, DeadLetter(reason="no"))
    assert bench.broker.queue("q") == type(bench.broker.queue("q"))(
        name="q", type="classic", ready=0, unsettled=0, consumers=1
    )


def test_a_dead_letter_that_its_full_queue_refuses_goes_back() -> None:
    bench = Bench(
        Queue(name="dead", max_length=0, arguments={"x-overflow": "reject-publish"}),
        Queue(name="q", dead_letter="dead"),
    )
    bench.consumer()
    bench.publish("a")
    bench.settle(0, DeadLetter(reason="no"))
    assert [i.redelivered for i in bench.arrived] == [False, True]


# -- time ---------------------------------------------------------------------------------------------------


def test_an_expired_message_is_dead_lettered_when_it_reaches_the_head() -> None:
    bench = Bench(Queue(name="q", dead_letter="dead"))
    bench.publish("stays", ttl=10.0)
    bench.publish("short", ttl=1.0)
    bench.clock.advance(5.0)
    assert (bench.waiting(), bench.waiting("dead")) == (["stays", "short"], [])
    bench.clock.advance(5.0)
    assert (bench.waiting(), bench.waiting("dead")) == ([], ["stays", "short"])
    death = bench.broker.messages("dead")[1].headers["x-death"][0]
    assert (death["reason"], death["original-expiration"], death["routing-keys"]) == ("expired", "1000", ["q"])


def test_the_shorter_time_to_live_counts() -> None:
    bench = Bench(Queue(name="q", message_ttl=2.0))
    bench.publish("a", ttl=9.0)
    bench.clock.advance(2.0)
    assert bench.waiting() == []


def test_an_expired_message_is_never_delivered() -> None:
    bench = Bench(Queue(name="q"))
    busy = bench.consumer(prefetch=1)
    bench.publish("held")
    bench.publish("a", ttl=1.0)
    bench.publish("b")
    bench.clock.advance(2.0)
    bench.settle(0, Ack())
    assert bench.bodies == ["held", "b"]
    assert busy.unsettled


def test_a_message_that_only_the_broker_moves_in_a_circle_is_dropped() -> None:
    bench = Bench(Queue(name="q", message_ttl=1.0, dead_letter="r"), Queue(name="s"))
    bench.broker.delete_queue("r")
    bench.broker.declare(Queue(name="r", message_ttl=1.0, dead_letter="q"))
    bench.publish("a")
    bench.clock.advance(1.0)
    assert (bench.waiting("q"), bench.waiting("r")) == ([], ["a"])
    bench.clock.advance(10.0)
    assert (bench.waiting("q"), bench.waiting("r")) == ([], [])


def test_an_unused_queue_expires_and_a_used_one_does_not() -> None:
    bench = Bench(Queue(name="used", expires=5.0), Queue(name="unused", expires=5.0))
    consumer = bench.consumer(queue="used")
    bench.clock.advance(10.0)
    assert bench.broker.queues() == ["used"]
    bench.broker.drop(consumer)
    bench.clock.advance(4.0)
    bench.broker.declare(Queue(name="used", expires=5.0))
    bench.clock.advance(4.0)
    assert bench.broker.queues() == ["used"]
    bench.clock.advance(1.0)
    assert bench.broker.queues() == []


def test_an_auto_delete_queue_goes_with_its_last_consumer() -> None:
    bench = Bench(Queue(name="q", auto_delete=True))
    first, second = bench.consumer("a"), bench.consumer("b")
    bench.broker.drop(first)
    assert bench.broker.queues() == ["q"]
    bench.broker.drop(second)
    assert bench.broker.queues() == []
