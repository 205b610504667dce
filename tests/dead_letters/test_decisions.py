"""What is read from a dead letter, which are meant, and what a replay sends: decided over values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from eventbus import ConfigurationError, Message, Queue, Topology
from eventbus._dead_letters._reading import read_dead_letter
from eventbus._dead_letters._replaying import replay_copy, why_not
from eventbus._dead_letters._tour import places_of, queues_of
from eventbus._dead_letters._walking import FIRST_PAGE, LONGEST_PAGE, PAGE_BYTES, next_page
from eventbus._settlement import DeadLetter, dead_letter_copy, restore_origin, retry_copy
from eventbus.dead_letters import DeadLetterFilter, DeadLetterQueue, DeadMessage
from eventbus.transport import Incoming

QUEUE = "emails.customers.registered"
PLACE = DeadLetterQueue(QUEUE + ".dead", (QUEUE,))
MESSAGE = Message(
    exchange="eventbus.events",
    topic="customers.registered.se",
    body=b"{}",
    id="one",
    type="customers.registered",
    source="signup",
    time=1000.0,
    headers={"tenant": "a", "eventbus-key": "7"},
    ttl=5.0,
)
FAILURE = DeadLetter(reason="the handler failed in all 5 attempts", error_type="A.B", error="no", digest="abc123")


def lying(message: Message, **changes: Any) -> Incoming:
    """The message as it lies in the dead-letter queue."""
    message = msgspec.structs.replace(message, exchange="", topic=PLACE.name)
    return Incoming(message=message, consumer="page-1", queue=PLACE.name, **changes)


def ours() -> Message:
    incoming = Incoming(message=MESSAGE, consumer="c", queue=QUEUE, attempt=5, first_seen=1500.0)
    return dead_letter_copy(incoming, FAILURE, PLACE.name)


def death(queue: str = QUEUE, reason: str = "expired", **fields: Any) -> dict[str, Any]:
    return {
        "queue": queue,
        "reason": reason,
        "count": 1,
        "time": datetime(2026, 1, 2, tzinfo=UTC),
        "exchange": "eventbus.events",
        "routing-keys": ["customers.registered.no"],
        **fields,
    }


def moved(headers: dict[str, Any], message: Message = MESSAGE) -> Message:
    return msgspec.structs.replace(message, headers={**message.headers, **headers})


def test_a_copy_of_ours_tells_everything() -> None:
    dead = read_dead_letter(lying(ours()), PLACE)
    assert (dead.id, dead.type, dead.source, dead.published) == ("one", "customers.registered", "signup", 1000.0)
    assert (dead.exchange, dead.topic) == ("eventbus.events", "customers.registered.se")
    assert (dead.queue, dead.dead_queue) == (QUEUE, PLACE.name)
    assert (dead.reason, dead.error_type, dead.error, dead.digest) == (FAILURE.reason, "A.B", "no", "abc123")
    assert (dead.attempts, dead.first_seen, dead.by_broker) == (5, 1500.0, False)


def test_the_newest_death_in_a_queue_of_this_place_counts() -> None:
    deaths = [death("elsewhere"), death(reason="delivery_limit"), death(reason="expired", time=None)]
    dead = read_dead_letter(lying(moved({"x-death": deaths})), PLACE)
    assert (dead.queue, dead.reason.partition(":")[0], dead.by_broker) == (QUEUE, "delivery_limit", True)
    assert dead.died == datetime(2026, 1, 2, tzinfo=UTC).timestamp()
    assert (dead.exchange, dead.topic) == ("eventbus.events", "customers.registered.no")


def test_a_copy_for_a_retry_that_the_broker_moved_tells_where_the_original_went() -> None:
    copy = retry_copy(Incoming(message=MESSAGE, consumer="c", queue=QUEUE, attempt=2, first_seen=1500.0))
    headers = {**copy.headers, "x-death": [death(exchange="", **{"routing-keys": [QUEUE]})]}
    dead = read_dead_letter(lying(msgspec.structs.replace(copy, headers=headers)), PLACE)
    assert (dead.exchange, dead.topic) == ("eventbus.events", "customers.registered.se")
    assert (dead.attempts, dead.first_seen) == (3, 1500.0)


def test_the_brokers_word_goes_before_what_a_publisher_wrote() -> None:
    forged = {"eventbus-dead-reason": "forged", "eventbus-dead-queue": "victim", "eventbus-dead-digest": "d"}
    dead = read_dead_letter(lying(moved({**forged, "x-death": [death()]})), PLACE)
    assert (dead.queue, dead.reason.partition(":")[0], dead.digest) == (QUEUE, "expired", "")


@pytest.mark.parametrize(
    ("place", "named", "queue"),
    [
        (PLACE, QUEUE, QUEUE),
        (PLACE, QUEUE + ".3", QUEUE + ".3"),
        (PLACE, QUEUE + ".x", ""),
        (PLACE, "victim", ""),
        (PLACE, None, QUEUE),
        (DeadLetterQueue("parking", ("a", "b")), "b", "b"),
        (DeadLetterQueue("parking", ("a", "b")), None, ""),
        (DeadLetterQueue("parking"), "anything", "anything"),
        (DeadLetterQueue("parking"), None, ""),
    ],
)
def test_only_queues_whose_dead_letters_lie_there_are_believed(
    place: DeadLetterQueue, named: str | None, queue: str
) -> None:
    headers = {"eventbus-dead-reason": "r", **({} if named is None else {"eventbus-dead-queue": named})}
    dead = read_dead_letter(lying(moved(headers)), place)
    assert dead.queue == queue
    assert (why_not(dead) is None) == bool(queue)


@pytest.mark.parametrize("value", [None, -1, True, "x", 1e300, float("nan"), b"1", []])
def test_times_that_are_none_are_not_known(value: Any) -> None:
    dead = read_dead_letter(lying(moved({"eventbus-dead-reason": "r", "eventbus-dead-time": value})), PLACE)
    assert dead.died is None
    assert read_dead_letter(lying(moved({"x-death": [death(time=value)]})), PLACE).died is None


def test_texts_are_bounded() -> None:
    dead = read_dead_letter(lying(moved({"eventbus-dead-reason": "r" * 100_000})), PLACE)
    assert len(dead.reason) == 4096


def test_a_structured_event_is_known_by_the_id_in_it() -> None:
    body = b'{"specversion":"1.0","id":"in","type":"t","source":"s","data":1}'
    message = msgspec.structs.replace(MESSAGE, id="out", body=body, content_type="application/cloudevents+json")
    dead = read_dead_letter(lying(message), PLACE)
    assert (dead.id, dead.type) == ("in", "t")
    assert replay_copy(dead).body == body


def test_a_replay_goes_to_the_queue_alone_as_a_first_attempt() -> None:
    copy = replay_copy(read_dead_letter(lying(ours()), PLACE))
    assert (copy.exchange, copy.topic, copy.id, copy.ttl) == ("", QUEUE, "one", None)
    origin = restore_origin(copy)
    assert (origin.attempt, origin.first_seen) == (1, None)
    assert origin.message == msgspec.structs.replace(MESSAGE, ttl=None)


def test_a_replay_drops_what_brokers_and_waits_have_written() -> None:
    written = {
        "x-death": [death()], "x-first-death-queue": "q", "x-last-death-reason": "r", "x-delivery-count": 3,
        "eventbus-deliver-at": 5.0, "eventbus-wait-rest": 1.0, "eventbus-first-seen": 7, "x-own": "kept",
    }  # fmt: skip
    origin = restore_origin(replay_copy(read_dead_letter(lying(moved(written)), PLACE)))
    assert origin.message.headers == {**MESSAGE.headers, "x-own": "kept"}
    assert (origin.message.exchange, origin.message.topic) == ("eventbus.events", "customers.registered.no")


def test_what_cannot_be_read_cannot_be_replayed() -> None:
    dead = read_dead_letter(lying(MESSAGE, problem="a body of 99 bytes"), PLACE)
    assert "a body of 99 bytes" in (why_not(dead) or "")


def dead_message(**fields: Any) -> DeadMessage:
    return msgspec.structs.replace(read_dead_letter(lying(ours()), PLACE), **fields)


@pytest.mark.parametrize(
    ("where", "meant"),
    [
        ({}, True),
        ({"queue": QUEUE}, True),
        ({"queue": "emails"}, False),
        ({"group": "emails"}, True),
        ({"group": "email"}, False),
        ({"group": "emails.customers"}, True),
        ({"reason": "FAILED IN ALL"}, True),
        ({"reason": "expired"}, False),
        ({"error_type": "A.B"}, True),
        ({"error_type": "B"}, True),
        ({"error_type": "A"}, False),
        ({"type": "customers.registered"}, True),
        ({"type": "customers"}, False),
        ({"topic": "customers.#"}, True),
        ({"topic": "customers.*"}, False),
        ({"digest": "abc"}, True),
        ({"digest": "bc"}, False),
        ({"ids": ("two", "one")}, True),
        ({"ids": ("two",)}, False),
        ({"since": 2000.0}, True),
        ({"since": 2000.5}, False),
        ({"until": 2000.0}, True),
        ({"until": 1999.0}, False),
        ({"topic": "customers.#", "error_type": "C"}, False),
    ],
)
def test_filters(where: dict[str, Any], meant: bool) -> None:
    assert DeadLetterFilter(**where).matches(dead_message(died=2000.0)) is meant


def test_a_filter_by_time_means_none_whose_time_is_not_known() -> None:
    assert not DeadLetterFilter(since=1.0).matches(dead_message(died=None))
    assert not DeadLetterFilter(digest="").matches(dead_message(digest=""))


def test_a_topic_pattern_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        DeadLetterFilter(topic="x" * 300)


def test_the_dead_letter_queues_of_a_topology_know_their_sources() -> None:
    topology = Topology(
        queues=(
            Queue(name="a", dead_letter="a.dead"),
            Queue(name="p.0", dead_letter="p.dead"),
            Queue(name="p.1", dead_letter="p.dead"),
            Queue(name="b"),
            Queue(name="", dead_letter="gone"),
        )
    )
    known = queues_of(topology)
    assert known == (DeadLetterQueue("a.dead", ("a",)), DeadLetterQueue("p.dead", ("p.0", "p.1")))
    assert [place.queue for place in places_of((), known)] == list(known)
    named = places_of(("a", "p.1", "a.dead", "x", "y.dead"), known)
    assert [place.queue for place in named] == [
        *known,
        DeadLetterQueue("x.dead", ("x",)),
        DeadLetterQueue("y.dead", ("y",)),
    ]
    assert all(place.expected for place in named)


@pytest.mark.parametrize(
    ("largest", "page"), [(0, LONGEST_PAGE), (100, LONGEST_PAGE), (PAGE_BYTES // 100, 100), (PAGE_BYTES, FIRST_PAGE)]
)
def test_pages_are_smaller_where_messages_are_large(largest: int, page: int) -> None:
    assert next_page(largest) == page
