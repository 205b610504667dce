"""The routing in eventbus._routing gives RabbitMQ's answers: random tables and messages, asked of both.

The broker is asked through pika, so that neither our codec nor our connection stands in between.
"""

from __future__ import annotations

import struct
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
import pika.compat
import pika.data
import pytest
from eventbus_rabbitmq._local import server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus._routing import Router
from eventbus._topology import ExchangeKind

QUEUES = [f"queue{n}" for n in range(6)]
KINDS: tuple[ExchangeKind, ...] = ("topic", "direct", "fanout", "headers")

NEW_YEAR = datetime(2020, 1, 1, tzinfo=UTC)
WIDE_ONE = pika.compat.long(1)
"""Sent as 64 bits; pika sends a plain 1 as 32 bits."""

words = st.sampled_from(["a", "b", "", "é", "愛"])
topics = st.lists(words, max_size=5).map(".".join)
patterns = st.lists(words | st.sampled_from(["*", "#", "*", "#", "a*"]), max_size=5).map(".".join)
numbers: list[Any] = [0, 1, WIDE_ONE, 1.0, -0.0, 2**40, float(2**40), Decimal("1.5"), Decimal(1)]
scalars: list[Any] = [
    True,
    False,
    None,
    "1",
    b"1",
    "",
    "é",
    "é".encode(),
    NEW_YEAR,
    int(NEW_YEAR.timestamp()),
]
lists: list[Any] = [[], [1], [1.0], [True], ["1"], [b"1"], [None], [[1]], [{"a": 1}]]
tables: list[Any] = [{}, {"a": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1.0, "b": 2}]
SAMPLES = numbers + scalars + lists + tables
_installed = server.find()
headers_compared = pytest.mark.skipif(
    _installed is not None and not _installed.version.startswith("3."),
    reason="RabbitMQ 4 compares header values of different types in another way (1 and 1.0); the router follows 3.10",
)

values = st.sampled_from(SAMPLES)
headers = st.dictionaries(st.sampled_from(["k", "l", "x-m", "X-n"]), values, max_size=4)
modes = st.sampled_from([{}] + [{"x-match": mode} for mode in ("all", "any", "all-with-x", "any-with-x")])
arguments = st.builds(lambda mode, others: {**mode, **others}, modes, headers)

Step = tuple[Any, ...]
asked_of_broker = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


class OnBroker:
    """The interface of a Router, on exchanges and queues of the broker."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._prefix = f"routing-{uuid.uuid4().hex}-"
        self._arrived: list[tuple[str, bytes]] = []
        for queue in QUEUES:
            channel.queue_declare(self._prefix + queue, exclusive=True)
            channel.basic_consume(self._prefix + queue, self._note, auto_ack=True, consumer_tag=queue)

    def _note(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self._arrived.append((method.consumer_tag, body))

    def declare_exchange(self, name: str, kind: str, alternate: str | None = None) -> None:
        arguments = {} if alternate is None else {"alternate-exchange": self._prefix + alternate}
        self._channel.exchange_declare(self._prefix + name, kind, arguments=arguments)

    def delete_exchange(self, name: str) -> None:
        self._channel.exchange_delete(self._prefix + name)

    def bind_queue(self, exchange: str, queue: str, pattern: str, arguments: dict[str, Any]) -> None:
        self._channel.queue_bind(self._prefix + queue, self._prefix + exchange, pattern, arguments)

    def unbind_queue(self, exchange: str, queue: str, pattern: str, arguments: dict[str, Any]) -> None:
        self._channel.queue_unbind(self._prefix + queue, self._prefix + exchange, pattern, arguments)

    def bind_exchange(self, source: str, target: str, pattern: str, arguments: dict[str, Any]) -> None:
        self._channel.exchange_bind(self._prefix + target, self._prefix + source, pattern, arguments)

    def unbind_exchange(self, source: str, target: str, pattern: str, arguments: dict[str, Any]) -> None:
        self._channel.exchange_unbind(self._prefix + target, self._prefix + source, pattern, arguments)

    def route_all(self, messages: list[tuple[str, str, dict[str, Any]]]) -> list[Counter[str]]:
        """How often each queue gets each message."""
        self._arrived.clear()
        for number, (exchange, topic, headers) in enumerate(messages):
            properties = pika.BasicProperties(headers=headers)
            self._channel.basic_publish(self._prefix + exchange, topic, b"%d" % number, properties)
        # One channel's messages stay in order in a queue, so a last one shows that all have arrived.
        for queue in QUEUES:
            self._channel.basic_publish("", self._prefix + queue, b"last")
        while sum(body == b"last" for _, body in self._arrived) < len(QUEUES):
            self._channel.connection.process_data_events(time_limit=10)
        counts: list[Counter[str]] = [Counter() for _ in messages]
        for queue, body in self._arrived:
            if body != b"last":
                counts[int(body)][queue] += 1
        return counts


@pytest.fixture(scope="module")
def on_broker(broker: Any) -> Iterator[OnBroker]:
    encode_value = pika.data.encode_value

    def encode_value_or_float(pieces: list[bytes], value: Any) -> int:
        if type(value) is float:  # which pika reads but does not write
            pieces.append(struct.pack(">cd", b"d", value))
            return 9
        return int(encode_value(pieces, value))

    with (
        pytest.MonkeyPatch.context() as patch,
        pika.BlockingConnection(pika.URLParameters(broker.url)) as own,
    ):
        patch.setattr(pika.data, "encode_value", encode_value_or_float)
        yield OnBroker(own.channel())


def assert_same_answers(
    on_broker: OnBroker, steps: list[Step], messages: list[tuple[str, str, dict[str, Any]]]
) -> None:
    """Takes the steps (the name of a method and its arguments) on both, and routes messages on both."""
    router: Router[str] = Router(default=lambda _: None)
    declared = [step[1] for step in steps if step[0] == "declare_exchange"]
    try:
        for method, *args in steps:
            getattr(router, method)(*args)
            getattr(on_broker, method)(*args)
        counts = on_broker.route_all(messages)
    finally:
        for name in declared:
            on_broker.delete_exchange(name)
    for message, count in zip(messages, counts, strict=True):
        assert Counter(router.route(*message)) == count, message


@asked_of_broker
@given(st.lists(patterns, min_size=6, max_size=18), st.lists(topics, min_size=1, max_size=20))
def test_topic_patterns_match_as_on_the_broker(on_broker: OnBroker, bound: list[str], published: list[str]) -> None:
    steps: list[Step] = [("declare_exchange", "topics", "topic")]
    steps += [
        ("bind_queue", "topics", QUEUES[number % len(QUEUES)], pattern, {}) for number, pattern in enumerate(bound)
    ]

    assert_same_answers(on_broker, steps, [("topics", topic, {}) for topic in published])


@headers_compared
@asked_of_broker
@given(st.lists(arguments, min_size=6, max_size=6), st.lists(headers, min_size=1, max_size=20))
def test_headers_match_as_on_the_broker(
    on_broker: OnBroker, bound: list[dict[str, Any]], published: list[dict[str, Any]]
) -> None:
    steps: list[Step] = [("declare_exchange", "headers", "headers")]
    steps += [("bind_queue", "headers", queue, "", each) for queue, each in zip(QUEUES, bound, strict=True)]

    assert_same_answers(on_broker, steps, [("headers", "", each) for each in published])


@headers_compared
def test_all_pairs_of_header_values_are_equal_or_not_as_on_the_broker(on_broker: OnBroker) -> None:
    messages = [("headers", "", {"k": value}) for value in SAMPLES]
    for start in range(0, len(SAMPLES), len(QUEUES)):
        bound = zip(QUEUES, SAMPLES[start:], strict=False)
        steps: list[Step] = [("declare_exchange", "headers", "headers")]
        steps += [("bind_queue", "headers", queue, "", {"k": value}) for queue, value in bound]

        assert_same_answers(on_broker, steps, messages)


def test_bindings_are_the_same_or_two_by_their_arguments_as_on_the_broker(on_broker: OnBroker) -> None:
    # 1 and WIDE_ONE are two for the broker; which of them is sent for an int is up to the codec.
    plain: list[dict[str, Any]] = [
        {},
        {"k": None},
        {"k": 1},
        {"k": 1.0},
        {"k": True},
        {"k": "1"},
        {"k": b"1"},
    ]
    ordered: list[dict[str, Any]] = [{"k": 1, "l": 2}, {"l": 2, "k": 1}, *({"k": table} for table in tables)]
    nested: list[dict[str, Any]] = [{"k": value} for value in lists]
    different = plain + ordered + nested
    for first in different:
        # One exchange for each second one, so that all take one round of messages.
        steps: list[Step] = []
        for number, second in enumerate(different):
            name, queue = f"exchange{number}", QUEUES[number % len(QUEUES)]
            steps += [("declare_exchange", name, "fanout"), ("bind_queue", name, queue, "", first)]
            steps += [("bind_queue", name, queue, "", second), ("unbind_queue", name, queue, "", first)]

        assert_same_answers(on_broker, steps, [(f"exchange{n}", "", {}) for n in range(len(different))])


exchanges = st.sampled_from([f"exchange{n}" for n in range(4)])
few_patterns = st.sampled_from(["a", "b", "a.b", "*", "#", "a.#", ""])
few_arguments = st.sampled_from([{}, {"k": 1}, {"k": 1.0}, {"k": 1, "l": "1"}, {"l": "1", "k": 1}, {"k": None}])
changes = st.one_of(
    st.tuples(
        st.sampled_from(["bind_queue", "bind_queue", "unbind_queue"]),
        exchanges,
        st.sampled_from(QUEUES[:3]),
        few_patterns,
        few_arguments,
    ),
    st.tuples(
        st.sampled_from(["bind_exchange", "bind_exchange", "unbind_exchange"]),
        exchanges,
        exchanges,
        few_patterns,
        few_arguments,
    ),
)
messages = st.tuples(exchanges, st.sampled_from(["a", "b", "a.b", ""]), st.sampled_from([{}, {"k": 1}, {"k": 2}]))


@headers_compared
@asked_of_broker
@given(
    st.tuples(*[st.sampled_from(KINDS)] * 4),
    st.tuples(*[st.none() | exchanges] * 4),
    st.lists(changes, min_size=4, max_size=20),
    st.none() | exchanges,
    st.lists(messages, min_size=4, max_size=20),
)
def test_graphs_of_exchanges_route_as_on_the_broker(
    on_broker: OnBroker,
    kinds: tuple[ExchangeKind, ...],
    alternates: tuple[str | None, ...],
    changed: list[Step],
    recreated: str | None,
    published: list[tuple[str, str, dict[str, Any]]],
) -> None:
    steps: list[Step] = [("declare_exchange", f"exchange{n}", kind, alternates[n]) for n, kind in enumerate(kinds)]
    steps += changed
    if recreated:
        steps += [("delete_exchange", recreated), ("declare_exchange", recreated, "fanout")]
        steps += [("bind_queue", recreated, QUEUES[3], "", {})]

    assert_same_answers(on_broker, steps, published)
