"""Routing: topic patterns, header matches and tables of exchanges, against their plain definitions.

That the definitions are RabbitMQ's is shown in tests/rabbitmq/test_routing_agrees_with_broker.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus._errors import ConfigurationError, EncodingError, TopologyMismatch
from eventbus._routing import (
    Router,
    TopicTrie,
    UnknownExchange,
    headers_match,
    topic_matches,
    validate_pattern,
    validate_topic,
)
from eventbus._topology import ExchangeKind

KINDS: tuple[ExchangeKind, ...] = ("topic", "direct", "fanout", "headers")

topics = st.lists(st.sampled_from(["a", "b", "", "é"]), max_size=5).map(".".join)
patterns = st.lists(st.sampled_from(["a", "b", "", "é", "*", "#", "a*"]), max_size=5).map(".".join)


def words(text: str) -> list[str]:
    return text.split(".") if text else []


def matches_by_definition(pattern: list[str], topic: list[str]) -> bool:
    if not pattern:
        return not topic
    if pattern[0] == "#":
        return any(matches_by_definition(pattern[1:], topic[n:]) for n in range(len(topic) + 1))
    return bool(topic) and pattern[0] in ("*", topic[0]) and matches_by_definition(pattern[1:], topic[1:])


# Topics -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("", ""),
        ("#", ""),
        ("#", "a..b"),
        ("*", "a"),
        ("*.*", "."),
        ("a.*", "a."),
        ("a.#", "a"),
        ("#.#", ""),
        ("a.*.b", "a..b"),
        ("a.#.b", "a.b"),
        ("a.#.b", "a.x.y.b"),
        ("#.*", "a"),
        ("a*", "a*"),
        ("*", "#"),
    ],
)
def test_a_pattern_matches_what_rabbitmq_lets_it_match(pattern: str, topic: str) -> None:
    assert topic_matches(pattern, topic)


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [("*", ""), ("", "."), ("*", "a.b"), ("*", "."), ("a.*", "a"), ("a*", "ab"), ("a", "A"), ("#.*", "")],
)
def test_a_pattern_does_not_match_what_rabbitmq_does_not_let_it_match(pattern: str, topic: str) -> None:
    assert not topic_matches(pattern, topic)


@given(patterns, topics)
def test_a_pattern_matches_as_its_recursive_definition_says(pattern: str, topic: str) -> None:
    assert topic_matches(pattern, topic) == matches_by_definition(words(pattern), words(topic))


def test_very_many_wildcards_cost_no_exponential_time() -> None:
    pattern, topic = ".".join(["#", "a"] * 60), ".".join(["a"] * 120) + ".b"
    trie: TopicTrie[int] = TopicTrie()
    trie.insert(pattern, 1)

    assert not topic_matches(pattern, topic)
    assert trie.match(topic) == ()


@given(
    st.lists(st.tuples(st.booleans(), patterns, st.integers(0, 3)), max_size=20),
    st.lists(topics, min_size=1, max_size=5),
)
def test_a_trie_finds_the_values_of_the_patterns_that_match_in_order_of_insertion(
    changes: list[tuple[bool, str, int]], asked: list[str]
) -> None:
    trie: TopicTrie[int] = TopicTrie()
    held: dict[tuple[str, int], None] = {}
    for inserted, pattern, value in changes:
        if inserted:
            trie.insert(pattern, value)
            held[pattern, value] = None
        else:
            trie.remove(pattern, value)
            held.pop((pattern, value), None)
        for topic in asked:
            expected = dict.fromkeys(value for pattern, value in held if topic_matches(pattern, topic))
            assert trie.match(topic) == tuple(expected)


def test_a_trie_keeps_the_right_answers_when_it_has_seen_more_topics_than_it_remembers() -> None:
    trie: TopicTrie[str] = TopicTrie()
    trie.insert("n.*", "all")
    trie.insert("n.7", "seven")

    for _ in range(2):
        for number in range(5000):
            assert trie.match(f"n.{number}") == (("all", "seven") if number == 7 else ("all",))


def test_an_emptied_trie_holds_no_nodes() -> None:
    trie: TopicTrie[int] = TopicTrie()
    added = ["a.b.c", "a.b", "#", "a.*.#", ""]
    for pattern in added:
        trie.insert(pattern, 1)
    for pattern in added:
        trie.remove(pattern, 1)

    assert not trie._root.children
    assert not trie._root.values


@pytest.mark.parametrize("fitting", ["", "a" * 255, "é" * 127])
def test_a_topic_of_255_bytes_is_valid(fitting: str) -> None:
    validate_topic(fitting)
    validate_pattern(fitting)


@pytest.mark.parametrize("too_long", ["a" * 256, "é" * 128])
def test_a_topic_of_256_bytes_is_refused_with_its_size(too_long: str) -> None:
    with pytest.raises(EncodingError, match="the topic has 256 bytes"):
        validate_topic(too_long)
    with pytest.raises(ConfigurationError, match="the topic pattern has 256 bytes"):
        validate_pattern(too_long)


def test_a_topic_that_is_no_unicode_text_is_refused() -> None:
    with pytest.raises(EncodingError, match="UTF-8"):
        validate_topic("a.\ud800")


# Headers ------------------------------------------------------------------------------------------

NEW_YEAR = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("argument", "header"),
    [
        (1, 1.0),
        (0.0, -0.0),
        (2**40, float(2**40)),
        ("1", b"1"),
        (NEW_YEAR, int(NEW_YEAR.timestamp())),
        (NEW_YEAR, datetime(2020, 1, 1)),
        ([], {}),
        ([1, {"a": None}], [1, {"a": None}]),
    ],
)
def test_values_that_the_broker_holds_alike_are_equal(argument: Any, header: Any) -> None:
    assert headers_match({"k": argument}, {"k": header})
    assert headers_match({"k": header}, {"k": argument})


@pytest.mark.parametrize(
    ("argument", "header"),
    [
        (1, True),
        (0, False),
        (1, "1"),
        ("true", True),
        ("a", "A"),
        (2**53 + 1, float(2**53)),
        (0, None),
        ("", None),
        (Decimal("1.0"), Decimal("1.00")),
        (1, Decimal(1)),
        ([1], [1.0]),
        (["1"], [b"1"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_values_that_the_broker_holds_apart_are_not_equal(argument: Any, header: Any) -> None:
    assert not headers_match({"k": argument}, {"k": header})


@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        ({}, {}, True),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "any", "a": 1, "b": 2}, {"b": 1}, False),
        ({"x-match": "all", "x-a": 1}, {}, True),
        ({"x-match": "any", "x-a": 1}, {"x-a": 1}, False),
        ({"x-match": "all-with-x", "x-a": 1}, {}, False),
        ({"x-match": "all-with-x", "x-a": 1}, {"x-a": 1}, True),
        ({"x-match": "any-with-x", "x-a": 1}, {"x-a": 1}, True),
        ({"x-match": "any-with-x"}, {"x-match": "any-with-x"}, False),
        ({"X-a": 1}, {}, False),
        ({"a": None}, {}, False),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {"a": [1]}, True),
    ],
)
def test_x_match_decides_which_headers_count(
    arguments: dict[str, Any], headers: dict[str, Any], expected: bool
) -> None:
    assert headers_match(arguments, headers) is expected


@pytest.mark.parametrize("mode", ["some", "", "ALL", None, 1, True, b"any"])
def test_an_x_match_that_the_broker_refuses_is_refused(mode: Any) -> None:
    with pytest.raises(ConfigurationError, match="x-match"):
        headers_match({"x-match": mode}, {})


def test_a_value_that_no_header_can_hold_is_refused_with_its_type() -> None:
    with pytest.raises(ConfigurationError, match="set"):
        headers_match({"k": {1}}, {"k": 1})


header_tables = st.dictionaries(st.sampled_from(["a", "b", "x-c"]), st.sampled_from([1, 2, None]))


@given(header_tables, header_tables, st.sampled_from(["", "-with-x"]))
def test_all_and_any_are_all_and_any_of_the_single_arguments(
    arguments: dict[str, Any], headers: dict[str, Any], suffix: str
) -> None:
    single = [
        headers_match({"x-match": "all-with-x", name: value}, headers)
        for name, value in arguments.items()
        if suffix or not name.startswith("x-")
    ]

    assert headers_match({**arguments, "x-match": f"all{suffix}"}, headers) == all(single)
    assert headers_match({**arguments, "x-match": f"any{suffix}"}, headers) == any(single)


# Tables of exchanges ------------------------------------------------------------------------------


def router_with(*exchanges: tuple[str, ExchangeKind]) -> Router[str]:
    router: Router[str] = Router(default=lambda name: name if name == "known" else None)
    for name, kind in exchanges:
        router.declare_exchange(name, kind)
    return router


class Model:
    """A router as a list of bindings that is searched from end to end."""

    def __init__(self) -> None:
        self.kinds: dict[str, ExchangeKind] = {}
        self.bindings: list[tuple[str, str, str, dict[str, Any]]] = []

    def bind(self, *binding: Any) -> None:
        if binding not in self.bindings:
            self.bindings.append(binding)

    def unbind(self, *binding: Any) -> None:
        if binding in self.bindings:
            self.bindings.remove(binding)

    def remove(self, name: str) -> None:
        self.kinds.pop(name, None)
        self.bindings = [binding for binding in self.bindings if name not in binding[:2]]

    def route(self, exchange: str, topic: str, headers: dict[str, Any]) -> list[str]:
        seen = [exchange]
        for name in seen:
            seen += [t for t in dict.fromkeys(self.targets(name, topic, headers)) if t not in seen]
        return [name for name in seen if name.startswith("queue")]

    def targets(self, source: str, topic: str, headers: dict[str, Any]) -> Iterator[str]:
        for exchange, target, pattern, arguments in self.bindings:
            if (
                exchange == source
                and {
                    "topic": topic_matches(pattern, topic),
                    "direct": pattern == topic,
                    "fanout": True,
                    "headers": headers_match(arguments, headers),
                }[self.kinds[source]]
            ):
                yield target


exchange_names = st.sampled_from(["exchange1", "exchange2", "exchange3"])
queue_names = st.sampled_from(["queue1", "queue2", "queue3"])
bindings = st.tuples(exchange_names, exchange_names | queue_names, patterns, header_tables)
steps = (
    st.tuples(st.just("declare"), exchange_names, st.sampled_from(KINDS))
    | st.tuples(st.sampled_from(["bind", "bind", "bind", "unbind"]), bindings)
    | st.tuples(st.just("remove"), exchange_names | queue_names)
)


@given(
    st.tuples(*[st.sampled_from(KINDS)] * 3),
    st.lists(steps, max_size=25),
    st.lists(st.tuples(exchange_names, topics, header_tables), min_size=1, max_size=5),
)
def test_a_router_finds_the_destinations_that_a_search_through_all_bindings_finds(
    kinds: tuple[ExchangeKind, ...], changes: list[Any], messages: list[Any]
) -> None:
    router, model = router_with(), Model()
    start = [("declare", f"exchange{n}", kind) for n, kind in enumerate(kinds, 1)]
    for action, *rest in start + changes:
        if action == "declare":
            name, kind = rest
            if name not in model.kinds:
                model.kinds[name] = kind
                router.declare_exchange(name, kind)
        elif action == "remove":
            (name,) = rest
            model.remove(name)
            (router.delete_exchange if name.startswith("exchange") else router.unbind_all)(name)
        else:
            ((source, target, pattern, arguments),) = rest
            to_exchange = target.startswith("exchange")
            if action == "unbind":
                model.unbind(source, target, pattern, arguments)
                unbind = router.unbind_exchange if to_exchange else router.unbind_queue
                unbind(source, target, pattern, arguments)
            elif source in model.kinds and (not to_exchange or target in model.kinds):
                model.bind(source, target, pattern, arguments)
                bind = router.bind_exchange if to_exchange else router.bind_queue
                bind(source, target, pattern, arguments)
        for exchange, topic, headers in messages:
            if exchange in model.kinds:
                assert router.route(exchange, topic, headers) == model.route(exchange, topic, headers)
            else:
                with pytest.raises(UnknownExchange):
                    router.route(exchange, topic, headers)


def test_a_destination_gets_a_message_once_however_many_bindings_match() -> None:
    router = router_with(("events", "topic"))
    router.bind_queue("events", "second", "a.#")
    router.bind_queue("events", "first", "a.*")
    router.bind_queue("events", "second", "#")

    assert router.route("events", "a.b") == ["second", "first"]


def test_exchanges_bound_in_a_circle_route_once_and_come_to_an_end() -> None:
    router = router_with(("one", "fanout"), ("two", "fanout"))
    router.bind_exchange("one", "two")
    router.bind_exchange("two", "one")
    router.bind_exchange("one", "one")
    router.bind_queue("two", "far")
    router.bind_queue("one", "near")

    assert router.route("one", "") == ["near", "far"]
    assert router.route("two", "") == ["far", "near"]


def test_what_finds_no_binding_goes_to_the_alternate_exchange() -> None:
    router = router_with(("events", "topic"), ("rest", "fanout"))
    router.declare_exchange("parts", "headers", "rest")
    router.declare_exchange("lonely", "direct", "missing")
    router.bind_exchange("events", "parts", "#")
    router.bind_queue("parts", "one", "", {"x-match": "any", "a": True, "b": True})
    router.bind_queue("rest", "others")

    assert router.route("events", "t", {"b": True, "key": "k"}) == ["one"]
    assert router.route("events", "t", {"c": True}) == ["others"]
    assert router.route("events", "t") == ["others"]
    assert router.route("lonely", "t") == []


def test_a_destination_and_an_exchange_of_the_same_name_are_two_things() -> None:
    router = router_with(("one", "fanout"), ("two", "fanout"))
    router.bind_queue("one", "two")
    router.bind_exchange("one", "two")
    router.unbind_all("two")
    router.bind_queue("two", "far")

    assert router.route("one", "") == ["far"]


@pytest.mark.parametrize("kind", KINDS)
def test_bindings_that_differ_in_the_types_of_their_arguments_are_two(kind: ExchangeKind) -> None:
    router = router_with(("events", kind))
    router.bind_queue("events", "queue", "a", {"k": 1})
    router.bind_queue("events", "queue", "a", {"k": 1.0})
    router.bind_queue("events", "queue", "a", {"k": 1})

    router.unbind_queue("events", "queue", "a", {"k": 1})
    assert router.route("events", "a", {"k": 1}) == ["queue"]
    router.unbind_queue("events", "queue", "a", {"k": 1.0})
    assert router.route("events", "a", {"k": 1}) == []


def test_a_deleted_exchange_loses_the_bindings_from_it_and_to_it() -> None:
    router = router_with(("one", "fanout"), ("two", "fanout"))
    router.bind_exchange("one", "two")
    router.bind_queue("two", "queue")

    router.delete_exchange("two")
    assert router.route("one", "") == []
    router.declare_exchange("two", "fanout")
    assert router.route("one", "") == []
    assert router.route("two", "") == []


def test_the_default_exchange_leads_to_the_queue_named_by_the_topic() -> None:
    router = router_with()

    assert router.route("", "known") == ["known"]
    assert router.route("", "unknown") == []


def test_the_default_exchange_cannot_be_declared_deleted_or_bound() -> None:
    router = router_with(("events", "topic"))
    attempts: list[Callable[[], object]] = [
        lambda: router.declare_exchange("", "direct"),
        lambda: router.delete_exchange(""),
        lambda: router.bind_queue("", "queue"),
        lambda: router.unbind_queue("", "queue"),
        lambda: router.bind_exchange("", "events"),
        lambda: router.bind_exchange("events", ""),
        lambda: router.unbind_exchange("events", ""),
    ]
    for attempt in attempts:
        with pytest.raises(ConfigurationError, match="default exchange"):
            attempt()


def test_an_exchange_that_is_not_declared_is_named_in_the_error() -> None:
    router = router_with(("events", "topic"))
    attempts: list[Callable[[], object]] = [
        lambda: router.route("missing", "a"),
        lambda: router.bind_queue("missing", "queue"),
        lambda: router.bind_exchange("missing", "events"),
        lambda: router.bind_exchange("events", "missing"),
    ]
    for attempt in attempts:
        with pytest.raises(UnknownExchange, match="'missing'"):
            attempt()


def test_unbinding_and_deleting_what_is_not_there_does_nothing() -> None:
    router = router_with(("events", "topic"))
    router.unbind_queue("events", "queue", "a")
    router.unbind_queue("missing", "queue", "a")
    router.unbind_exchange("events", "missing", "a")
    router.unbind_all("queue")
    router.delete_exchange("missing")

    assert router.route("events", "a") == []


def test_an_exchange_is_declared_again_only_as_the_same_kind() -> None:
    router = router_with(("events", "topic"))
    router.bind_queue("events", "queue", "#")
    router.declare_exchange("events", "topic")

    assert router.route("events", "a") == ["queue"]
    with pytest.raises(TopologyMismatch, match="declared as topic, not as fanout"):
        router.declare_exchange("events", "fanout")
    with pytest.raises(ConfigurationError, match="not 'x-other'"):
        router.declare_exchange("other", "x-other")  # type: ignore[arg-type]


def test_a_binding_that_is_refused_leaves_no_trace() -> None:
    router = router_with(("events", "headers"))
    with pytest.raises(ConfigurationError):
        router.bind_queue("events", "queue", "", {"x-match": "some"})
    with pytest.raises(ConfigurationError):
        router.bind_queue("events", "queue", "a" * 256)

    router.unbind_all("queue")
    assert router.route("events", "") == []
