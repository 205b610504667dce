"""The in-memory broker does what RabbitMQ does: random sequences of operations, carried out on both.

The broker is asked through pika, as a foreign client would, so that nothing of ours stands in between.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pika
import pika.exceptions
import pytest
from eventbus_memory import Consumer, ManualClock, MemoryBroker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus import ConfigurationError
from eventbus._errors import ExchangeMissing, PublishError
from eventbus.transport import Ack, Binding, DeadLetter, Exchange, Incoming, Message, Queue, Requeue

SECONDS_TO_SETTLE = 3.0

Seen = tuple[str, bool]
"""The body of a message that was delivered, and whether it was marked as redelivered."""
Dead = tuple[str, list[tuple[str, str, int]]]
"""The body of a dead-lettered message, and reason, queue and count of its deaths."""
Step = tuple[Any, ...]

asked_of_both = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


class Broker(Protocol):
    """What both sides do. Positions count in what is held, oldest first."""

    def publish(self, exchange: str, topic: str, body: str, ttl: float | None, priority: int | None) -> str: ...
    def get(self) -> Seen | None: ...
    def ack(self, position: int) -> None: ...
    def requeue(self, position: int) -> None: ...
    def reject(self, position: int) -> None: ...
    def crash(self) -> None: ...
    def consume(self, prefetch: int) -> None: ...
    def consumed(self, expected: int) -> list[Seen]: ...
    def ack_consumed(self) -> None: ...
    def purge(self) -> int: ...
    def redeclare(self, queue: Queue) -> str: ...
    def dead(self, expected: int) -> list[Dead]: ...


class InMemory:
    """The interface, on the in-memory broker."""

    def __init__(self, queue: Queue) -> None:
        self.broker = MemoryBroker(clock=ManualClock(), queue_type="classic")
        self.queue = queue
        self._arrived: list[Incoming] = []
        self._seen = 0
        self._held: list[Incoming] = []
        self._holder = self._consumer()
        self._consuming: Consumer | None = None
        self.broker.declare(Exchange(name="events"))
        self.broker.declare(Queue(name="dead"))
        self.broker.declare(queue)
        self.broker.declare(Binding(exchange="events", queue="work", pattern="work.#"))

    def _consumer(self, prefetch: int = 0) -> Consumer:
        return Consumer("c", deliver=self._arrived.append, prefetch=prefetch)

    def publish(self, exchange: str, topic: str, body: str, ttl: float | None, priority: int | None) -> str:
        message = Message(
            exchange=exchange, topic=topic, body=body.encode(), id=body, type="t", ttl=ttl, priority=priority
        )
        outcome = self.broker.publish_raw(message)
        return "missing" if isinstance(outcome, ExchangeMissing) else _name(outcome)

    def get(self) -> Seen | None:
        incoming = self.broker.get("work", self._holder)
        if incoming is None:
            return None
        self._held.append(incoming)
        return _seen(incoming)

    def ack(self, position: int) -> None:
        self.broker.settle(self._held.pop(position), Ack())

    def requeue(self, position: int) -> None:
        self.broker.settle(self._held.pop(position), Requeue())

    def reject(self, position: int) -> None:
        self.broker.settle(self._held.pop(position), DeadLetter(reason="no", verbatim=True))

    def crash(self) -> None:
        self.broker.drop(self._holder)
        self._held.clear()
        self._holder = self._consumer()

    def consume(self, prefetch: int) -> None:
        self._consuming = self._consumer(prefetch)
        self.broker.consume("work", self._consuming)

    def consumed(self, expected: int) -> list[Seen]:
        return [_seen(incoming) for incoming in self._arrived]

    def ack_consumed(self) -> None:
        self.broker.settle(self._arrived[self._seen], Ack())
        self._seen += 1

    def purge(self) -> int:
        return self.broker.purge("work")

    def redeclare(self, queue: Queue) -> str:
        try:
            self.broker.declare(queue)
        except ConfigurationError:
            return "refused"
        return "equal"

    def ready(self) -> int:
        return self.broker.queue("work").ready

    def dead(self, expected: int) -> list[Dead]:
        return [(m.body.decode(), _deaths(m.headers)) for m in self.broker.messages("dead")]


class OnRabbit:
    """The interface, on RabbitMQ."""

    def __init__(self, connection: Any, queue: Queue) -> None:
        self._prefix = f"agrees-{uuid.uuid4().hex}-"
        self._connection = connection
        self._publishing = connection.channel()
        self._publishing.confirm_delivery()
        self._holding = connection.channel()
        self._consuming = connection.channel()
        self._held: list[int] = []
        self._arrived: list[tuple[int, Seen]] = []
        self._acked = 0
        self._publishing.exchange_declare(self._prefix + "events", "topic", durable=True)
        self._publishing.queue_declare(self._prefix + "dead", durable=True)
        self._declare(self._publishing, queue)
        self._publishing.queue_bind(self._prefix + "work", self._prefix + "events", "work.#")

    def _declare(self, channel: Any, queue: Queue) -> None:
        channel.queue_declare(self._prefix + "work", durable=True, arguments=_arguments(queue, self._prefix))

    def publish(self, exchange: str, topic: str, body: str, ttl: float | None, priority: int | None) -> str:
        if exchange == "missing":
            with pytest.raises(pika.exceptions.ChannelClosedByBroker), self._connection.channel() as channel:
                channel.basic_publish(self._prefix + exchange, topic, body.encode())
                channel.queue_declare(self._prefix + "dead", passive=True)
            return "missing"
        properties = pika.BasicProperties(
            expiration=None if ttl is None else str(round(ttl * 1000)), priority=priority, delivery_mode=2
        )
        if exchange == "":
            topic = self._prefix + topic
        try:
            self._publishing.basic_publish(
                exchange and self._prefix + exchange, topic, body.encode(), properties, mandatory=True
            )
        except pika.exceptions.UnroutableError:
            return "unroutable"
        except pika.exceptions.NackError:
            return "rejected"
        return "confirmed"

    def get(self) -> Seen | None:
        method, _properties, body = self._holding.basic_get(self._prefix + "work")
        if method is None:
            return None
        self._held.append(method.delivery_tag)
        return body.decode(), method.redelivered

    def ack(self, position: int) -> None:
        self._holding.basic_ack(self._held.pop(position))
        self._round_trip(self._holding)

    def requeue(self, position: int) -> None:
        self._holding.basic_nack(self._held.pop(position), requeue=True)
        self._round_trip(self._holding)

    def reject(self, position: int) -> None:
        self._holding.basic_reject(self._held.pop(position), requeue=False)
        self._round_trip(self._holding)

    def crash(self) -> None:
        self._holding.close()
        self._held.clear()
        self._holding = self._connection.channel()

    def consume(self, prefetch: int) -> None:
        self._consuming.basic_qos(prefetch_count=prefetch)
        self._consuming.basic_consume(self._prefix + "work", self._note)

    def _note(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self._arrived.append((method.delivery_tag, (body.decode(), method.redelivered)))

    def consumed(self, expected: int) -> list[Seen]:
        self._until(lambda: len(self._arrived) >= expected)
        self._round_trip(self._consuming)  # what is too much would come before the answer
        return [seen for _tag, seen in self._arrived]

    def ack_consumed(self) -> None:
        tag, _seen = self._arrived[self._acked]
        self._acked += 1
        self._consuming.basic_ack(tag)

    def purge(self) -> int:
        return int(self._publishing.queue_purge(self._prefix + "work").method.message_count)

    def redeclare(self, queue: Queue) -> str:
        try:
            with self._connection.channel() as channel:
                self._declare(channel, queue)
        except pika.exceptions.ChannelClosedByBroker as error:
            return "refused" if error.reply_code == 406 else str(error)
        return "equal"

    def dead(self, expected: int) -> list[Dead]:
        found: list[Dead] = []

        def take() -> bool:
            while (got := self._publishing.basic_get(self._prefix + "dead", auto_ack=True))[0] is not None:
                deaths = _deaths(got[1].headers)
                unprefixed = [(reason, queue.removeprefix(self._prefix), count) for reason, queue, count in deaths]
                found.append((got[2].decode(), unprefixed))
            return len(found) >= expected

        self._until(take)
        return found

    def ready(self, expected: int) -> int:
        counts = [-1]

        def look() -> bool:
            answer = self._publishing.queue_declare(self._prefix + "work", passive=True)
            counts[0] = answer.method.message_count
            return counts[0] == expected

        self._until(look)
        return counts[0]

    def _until(self, reached: Callable[[], bool]) -> None:
        until = time.monotonic() + SECONDS_TO_SETTLE
        while not reached() and time.monotonic() < until:
            self._connection.process_data_events(time_limit=0.005)
        self._connection.process_data_events(time_limit=0)

    def _round_trip(self, channel: Any) -> None:
        channel.queue_declare(self._prefix + "work", passive=True)

    def close(self) -> None:
        for channel in (self._holding, self._consuming):
            channel.close()
        for queue in ("work", "dead"):
            self._publishing.queue_delete(self._prefix + queue)
        self._publishing.exchange_delete(self._prefix + "events")
        self._publishing.close()


def _arguments(queue: Queue, prefix: str) -> dict[str, Any]:
    arguments = {"x-queue-type": queue.type, **queue.arguments}
    values = {
        "x-dead-letter-exchange": None if queue.dead_letter is None else "",
        "x-dead-letter-routing-key": queue.dead_letter and prefix + queue.dead_letter,
        "x-delivery-limit": queue.delivery_limit,
        "x-max-length": queue.max_length,
        "x-max-priority": queue.max_priority,
        "x-message-ttl": None if queue.message_ttl is None else round(queue.message_ttl * 1000),
        "x-single-active-consumer": queue.single_active_consumer or None,
    }
    return {**{name: value for name, value in values.items() if value is not None}, **arguments}


def _name(outcome: PublishError | None) -> str:
    return "confirmed" if outcome is None else outcome.outcome


def _seen(incoming: Incoming) -> Seen:
    return incoming.message.body.decode(), incoming.redelivered


def _deaths(headers: Any) -> list[tuple[str, str, int]]:
    return [(death["reason"], death["queue"], death["count"]) for death in headers["x-death"]]


# -- sequences ----------------------------------------------------------------------------------------------

publishes = st.tuples(
    st.just("publish"),
    st.sampled_from(
        [("events", "work.a"), ("events", "work"), ("", "work"), ("events", "other"), ("", "none"), ("missing", "x")]
    ),
    st.sampled_from([None, None, None, None, 0.0]),
    st.sampled_from([None, 0, 1, 2, 9]),
)
settles = st.tuples(st.sampled_from(["ack", "requeue", "reject"]), st.integers(0, 3))
others = st.sampled_from([("purge",), ("crash",), ("dead",)])
gets = st.just(("get",))
steps = st.lists(st.one_of(publishes, publishes, gets, gets, settles, settles, others), max_size=30)


dead_letters = st.sampled_from([None, "dead", "dead"])
limits = st.sampled_from([None, None, 1, 2])
classic_queues = st.builds(
    Queue,
    name=st.just("work"),
    type=st.just("classic"),
    dead_letter=dead_letters,
    max_length=st.sampled_from([None, 1, 3]),
    max_priority=st.sampled_from([None, None, 2]),
    arguments=st.sampled_from([{}, {"x-overflow": "reject-publish"}, {"x-overflow": "drop-head"}]),
)
quorum_queues = st.builds(
    Queue,
    name=st.just("work"),
    type=st.just("quorum"),
    dead_letter=dead_letters,
    delivery_limit=limits,
    max_length=st.sampled_from([None, None, 3]),
    arguments=st.just({"x-overflow": "drop-head"}),
)


@pytest.fixture(scope="module")
def connection(broker: Any) -> Iterator[Any]:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as opened:
        yield opened


def run(connection: Any, queue: Queue, sequence: list[Step]) -> None:
    if queue.max_priority is not None:
        # RabbitMQ looks for expired messages only when the head of the queue changes, and forgets that a
        # message of higher priority does that: it delivers expired ones. We do not.
        sequence = [(*step[:2], None, step[3]) if step[0] == "publish" else step for step in sequence]
    memory = InMemory(queue)
    rabbit = OnRabbit(connection, queue)
    try:
        held = 0
        for number, step in enumerate([*sequence, ("crash",), *[("get",)] * 12, ("dead",)]):
            answers = [_carry_out(side, step, number, held, memory) for side in (rabbit, memory)]
            assert answers[0] == answers[1], (number, step)
            expected = memory.ready()
            # Expired messages go in a moment of RabbitMQ's choice: wait for it before the next step.
            assert rabbit.ready(expected) == expected, (number, step)
            if step[0] == "get" and answers[0] is not None:
                held += 1
            elif step[0] in ("ack", "requeue", "reject") and step[1] < held:
                held -= 1
            elif step[0] == "crash":
                held = 0
    finally:
        rabbit.close()


def _carry_out(side: Broker, step: Step, number: int, held: int, memory: InMemory) -> Any:
    match step:
        case ("publish", (exchange, topic), ttl, priority):
            return side.publish(exchange, topic, f"m{number}", ttl, priority)
        case ("ack" | "requeue" | "reject" as how, position):
            return getattr(side, how)(position) if position < held else None
        case ("dead",):
            return side.dead(len(memory.dead(0))) if side is not memory else _take_dead(memory)
        case (name,):
            return getattr(side, name)()
    raise AssertionError(step)


def _take_dead(memory: InMemory) -> list[Dead]:
    found = memory.dead(0)
    memory.broker.purge("dead")
    return found


@asked_of_both
@given(classic_queues, steps)
def test_a_classic_queue_behaves_as_on_rabbitmq(connection: Any, queue: Queue, sequence: list[Step]) -> None:
    run(connection, queue, sequence)


@asked_of_both
@given(quorum_queues, steps)
def test_a_quorum_queue_behaves_as_on_rabbitmq(connection: Any, queue: Queue, sequence: list[Step]) -> None:
    run(connection, queue, sequence)


plain_queues = st.builds(Queue, name=st.just("work"), type=st.sampled_from(["classic", "quorum"]))
consuming = st.lists(st.sampled_from(["publish", "publish", "ack"]), max_size=20)


@settings(asked_of_both, max_examples=30)
@given(plain_queues, st.integers(0, 4), st.integers(1, 4), consuming)
def test_a_consumer_is_given_what_its_prefetch_allows_as_on_rabbitmq(
    connection: Any, queue: Queue, backlog: int, prefetch: int, sequence: list[str]
) -> None:
    memory = InMemory(queue)
    rabbit = OnRabbit(connection, queue)
    try:
        for number in range(backlog):
            for side in (memory, rabbit):
                side.publish("", "work", f"b{number}", None, None)
        for side in (memory, rabbit):
            side.consume(prefetch)
        acked = 0
        for number, step in enumerate(sequence):
            if step == "ack" and acked < len(memory.consumed(0)):
                # The broker's own delivery must have come before it can be acked.
                assert rabbit.consumed(acked + 1)[acked] == memory.consumed(0)[acked]
                acked += 1
                memory.ack_consumed()
                rabbit.ack_consumed()
            elif step == "publish":
                for side in (memory, rabbit):
                    side.publish("events", "work.x", f"m{number}", None, None)
        expected = memory.consumed(0)
        assert rabbit.consumed(len(expected)) == expected
    finally:
        rabbit.close()


VARIANTS: list[dict[str, Any]] = [
    {"dead_letter": "dead"},
    {"max_length": 5},
    {"message_ttl": 60.0},
    {"delivery_limit": 3},
    {"max_priority": 4},
    {"single_active_consumer": True},
    {"arguments": {"x-overflow": "reject-publish"}},
    {"arguments": {"x-max-length": 5}},
    {},
]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_queue_is_redeclared_only_with_equal_properties_as_on_rabbitmq(connection: Any, kind: Any) -> None:
    variants = [
        Queue(name="work", type=kind, **variant)
        for variant in VARIANTS
        # Each type takes some arguments that only the other one knows, and RabbitMQ's versions differ in which.
        if ("max_priority" if kind == "quorum" else "delivery_limit") not in variant
    ]
    for first in variants:
        memory, rabbit = InMemory(first), OnRabbit(connection, first)
        try:
            for second in variants:
                assert rabbit.redeclare(second) == memory.redeclare(second), (first, second)
        finally:
            rabbit.close()
