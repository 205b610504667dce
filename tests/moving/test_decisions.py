"""What a move means, what it sends and what follows from an outcome: over values, without a broker."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from eventbus import (
    AccessRefused,
    BusClosed,
    ConfigurationError,
    EncodingError,
    ExchangeMissing,
    MessageTooLarge,
    NotSent,
    PublishError,
    PublishUnknown,
    Rejected,
    Unroutable,
)
from eventbus._moving._carrying import carry, fate_of
from eventbus._moving._places import beside_of, declarable, places_of
from eventbus._moving._values import Choice, MovedQueue, MoveReport, Place
from eventbus._settlement import DeadLetter, dead_letter_copy, restore_origin, retry_copy
from eventbus.transport import SCHEDULED, Binding, Exchange, Incoming, Message, Queue, Topology

NOW = 1_800_000_000.0
QUEUE = Place(name="emails.a")
DEAD = Place(name="emails.a.dead", kind="dead", sources=("emails.a",))
LATER = Place(name=SCHEDULED, kind="scheduled")


def message(**fields: Any) -> Message:
    return Message(**{"exchange": "eventbus.events", "topic": "a.b", "body": b"{}", "id": "1", "type": "a", **fields})


def incoming(message: Message, **fields: Any) -> Incoming:
    return Incoming(**{"message": message, "consumer": "c", "queue": "emails.a", **fields})


# -- which queues -------------------------------------------------------------------------------------------

TOPOLOGY = Topology(
    exchanges=(Exchange(name="eventbus.events"),),
    queues=(
        Queue(name="emails.a", dead_letter="emails.a.dead"),
        Queue(name="emails.b.0", dead_letter="emails.b.dead"),
        Queue(name="emails.b.1", dead_letter="emails.b.dead"),
        Queue(name="emails.b.members", auto_delete=True),
        Queue(name="bills.a", dead_letter="elsewhere"),
        Queue(name="", exclusive=True),
    ),
    bindings=(
        Binding(exchange="eventbus.events", queue="emails.a", pattern="#"),
        Binding(exchange="eventbus.events", queue="", pattern="#"),
        Binding(exchange="eventbus.events", to_exchange="more"),
    ),
)
LISTED = ("bills.a", "emails.a", "emails.a.dead", "emails.b", "emails.b.dead", SCHEDULED)


def names(choice: Choice, topology: Topology | None = None, listed: Any = None) -> list[str]:
    return [place.name for place in places_of(choice, topology, listed)]


@pytest.mark.parametrize(
    ("choice", "topology", "listed", "expected"),
    [
        (Choice(queues=("x", "y", "x")), None, None, ["x", "y"]),
        (Choice(queues=("x",)), TOPOLOGY, LISTED, ["x"]),
        (Choice(queues=("x",), dead_letters=True), None, None, ["x", "x.dead"]),
        (Choice(queues=("bills.a",), dead_letters=True), TOPOLOGY, None, ["bills.a", "elsewhere"]),
        (Choice(queues=("x.dead",)), None, None, ["x.dead"]),
        (Choice(), TOPOLOGY, None, ["emails.a", "emails.b.0", "emails.b.1", "bills.a"]),
        (Choice(group="emails"), TOPOLOGY, LISTED, ["emails.a", "emails.b.0", "emails.b.1"]),
        (
            Choice(group="emails", dead_letters=True), TOPOLOGY, None,
            ["emails.a", "emails.b.0", "emails.b.1", "emails.a.dead", "emails.b.dead"],
        ),
        (Choice(), None, LISTED, ["bills.a", "emails.a", "emails.b"]),
        (Choice(group="emails"), None, LISTED, ["emails.a", "emails.b"]),
        (
            Choice(group="emails", dead_letters=True, scheduled=True), None, LISTED,
            ["emails.a", "emails.b", "emails.a.dead", "emails.b.dead", SCHEDULED],
        ),
    ],
)  # fmt: skip
def test_the_queues_are_those_named_else_those_of_the_code_else_those_listed(
    choice: Choice, topology: Topology | None, listed: Any, expected: list[str]
) -> None:
    assert names(choice, topology, listed) == expected


def test_only_a_queue_that_was_named_must_be_there() -> None:
    assert [p.expected for p in places_of(Choice(queues=("x",), dead_letters=True), None, None)] == [True, False]
    assert not any(p.expected for p in places_of(Choice(dead_letters=True), TOPOLOGY, None))


def test_a_dead_letter_queue_knows_the_queues_that_fill_it() -> None:
    found = {place.name: place for place in places_of(Choice(dead_letters=True), TOPOLOGY, None)}
    assert (found["emails.b.dead"].kind, found["emails.b.dead"].sources) == ("dead", ("emails.b.0", "emails.b.1"))
    (named,) = places_of(Choice(queues=("emails.b.dead",)), TOPOLOGY, None)
    assert (named.kind, named.expected, named.sources) == ("dead", True, ("emails.b.0", "emails.b.1"))
    (guessed,) = places_of(Choice(queues=("x.dead",)), None, None)
    assert (guessed.kind, guessed.sources) == ("dead", ("x",))


@pytest.mark.parametrize(
    ("choice", "topology", "listed", "said"),
    [
        (Choice(), None, None, "cannot tell which queues"),
        (Choice(group="none"), TOPOLOGY, None, "no queues of group 'none'"),
        (Choice(), None, (SCHEDULED,), "no queues"),
        (Choice(queues=("x",), scheduled=True), None, None, "delayed messages"),
        (Choice(scheduled=True), None, ("x",), "delayed messages"),
    ],
)
def test_where_nobody_knows_a_queue_that_is_said(choice: Choice, topology: Any, listed: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        places_of(choice, topology, listed)


def test_dead_letters_and_delayed_messages_that_stay_are_counted() -> None:
    counts = {"emails.a": 3, "emails.a.dead": 2, "emails.b.dead": 7, "bills.a": 1, SCHEDULED: 4}
    assert beside_of((QUEUE,), counts) == {"emails.a.dead": 2, SCHEDULED: 4}
    assert beside_of((QUEUE, DEAD, LATER), counts) == {}


def test_a_queue_is_declared_with_the_one_that_brings_it() -> None:
    assert declarable(DEAD, TOPOLOGY) == TOPOLOGY.queues[0]
    assert declarable(Place(name="bills.a"), TOPOLOGY) == TOPOLOGY.queues[4]
    assert declarable(Place(name="emails.b.members"), TOPOLOGY) is None
    assert declarable(QUEUE, None) is None


# -- what is sent -------------------------------------------------------------------------------------------

HEADERS = {"text": "ä", "bytes": b"\x00", "yes": True, "none": None, "number": 2**40, "float": 0.5,
           "time": datetime(2026, 1, 1, tzinfo=UTC), "money": Decimal("1.20"), "list": [1, {"a": "b"}]}  # fmt: skip


def test_a_message_that_was_never_handed_out_arrives_as_it_was_published() -> None:
    published = message(
        time=5.0, source="s", subject="x", headers=HEADERS, priority=3, ttl=7.0, correlation_id="c", reply_to="r",
        content_type="text/plain", content_encoding="gzip", dataschema="d", persistent=False,
    )  # fmt: skip
    carried = carry(incoming(published), QUEUE, sent=False, now=NOW)
    assert (carried.message.exchange, carried.message.topic, carried.marked) == ("", "emails.a", False)
    origin = restore_origin(carried.message)
    assert (origin.message, origin.attempt, origin.first_seen) == (published, 1, None)


@pytest.mark.parametrize(
    ("arrival", "sent", "attempt"),
    [
        ({}, False, 1),
        ({}, True, 2),
        ({"redelivered": True}, False, 2),
        ({"redelivered": True, "attempt": 2}, False, 2),
        ({"redelivered": True, "attempt": 4}, True, 4),
    ],
)
def test_what_may_have_been_handled_or_moved_arrives_as_a_later_attempt(
    arrival: dict[str, Any], sent: bool, attempt: int
) -> None:
    carried = carry(incoming(message(), **arrival), QUEUE, sent=sent, now=NOW)
    assert restore_origin(carried.message).attempt == attempt
    assert carried.marked is (attempt > 1)


@pytest.mark.parametrize("crashes", [0, 2])
def test_a_copy_for_a_retry_goes_on_counting(crashes: int) -> None:
    failed = incoming(message(headers={"own": 1}), attempt=2, first_seen=1000.0)
    waiting = incoming(retry_copy(failed), attempt=1 + crashes, redelivered=crashes > 0)
    origin = restore_origin(carry(waiting, QUEUE, sent=False, now=NOW).message)
    assert (origin.attempt, origin.first_seen) == (3 + crashes, 1000.0)
    assert origin.message == message(headers={"own": 1})


def test_a_source_may_count_attempts_beside_the_message() -> None:
    carried = carry(incoming(message(), attempt=3, first_seen=1000.5), QUEUE, sent=False, now=NOW)
    origin = restore_origin(carried.message)
    assert (origin.attempt, origin.first_seen, origin.message) == (3, 1000.0, message())


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({"deliver_at": NOW + 60}, NOW + 60),
        ({"deliver_at": NOW - 60}, None),
        ({"deliver_at": NOW + 1e9}, NOW + 366 * 86400),
        ({"headers": {"eventbus-deliver-at": NOW + 60, "eventbus-wait-rest": 20.0}}, NOW + 60),
        ({"headers": {"eventbus-deliver-at": NOW + 60, "eventbus-wait-rest": 0.0}}, None),
        ({"headers": {"eventbus-deliver-at": "soon", "eventbus-wait-rest": 20.0}}, None),
    ],
)
def test_a_message_that_waits_goes_on_waiting(fields: dict[str, Any], due: float | None) -> None:
    carried = carry(incoming(message(**fields)), QUEUE, sent=False, now=NOW).message
    assert carried.deliver_at == due
    assert not any(name.startswith(("eventbus-deliver", "eventbus-wait")) for name in carried.headers)


def test_what_brokers_wrote_stays_behind() -> None:
    headers = {"x-death": [{}], "x-first-death-queue": "q", "x-delivery-count": 3, "x-own": 1}
    carried = carry(incoming(message(headers=headers)), QUEUE, sent=False, now=NOW)
    assert restore_origin(carried.message).message.headers == {"x-own": 1}


def test_a_dead_letter_keeps_its_reason() -> None:
    dead = dead_letter_copy(incoming(message(), attempt=5), DeadLetter("why", "E", "text", "d"), "emails.a.dead")
    carried = carry(incoming(dead, queue="emails.a.dead"), DEAD, sent=False, now=NOW)
    assert (carried.message, carried.marked) == (dead, False)


def test_a_dead_letter_that_the_broker_moved_tells_what_the_broker_knew() -> None:
    death = {
        "reason": "delivery_limit", "queue": "emails.a", "exchange": "eventbus.events", "routing-keys": ["a.b"],
        "time": datetime.fromtimestamp(NOW, UTC), "count": 1,
    }  # fmt: skip
    lies = incoming(message(exchange="", topic="emails.a.dead", headers={"x-death": [death], "own": 1}))
    sent = carry(lies, DEAD, sent=True, now=NOW)
    headers = sent.message.headers
    assert headers["eventbus-dead-reason"].startswith("delivery_limit")
    assert (headers["eventbus-exchange"], headers["eventbus-topic"]) == ("eventbus.events", "a.b")
    assert (headers["eventbus-dead-queue"], headers["eventbus-dead-time"]) == ("emails.a", int(NOW))
    assert (headers["own"], "x-death" in headers, sent.marked) == (1, False, True)
    assert sent.message.ttl is None


@pytest.mark.parametrize("again", [False, True])
def test_a_delayed_message_goes_to_its_exchange_at_its_time(again: bool) -> None:
    delayed = message(deliver_at=NOW + 60, headers={"own": 1})
    carried = carry(incoming(delayed, redelivered=again), LATER, sent=False, now=NOW)
    assert (carried.message.exchange, carried.message.topic) == (delayed.exchange, delayed.topic)
    assert (carried.message.deliver_at, carried.marked) == (NOW + 60, again)
    assert restore_origin(carried.message).attempt == (2 if again else 1)
    assert restore_origin(carried.message).message.headers == {"own": 1}
    assert carry(incoming(message(deliver_at=NOW - 1)), LATER, sent=False, now=NOW).message.deliver_at is None


# -- what follows from an outcome ---------------------------------------------------------------------------


def denied() -> PublishError:
    error = Rejected("no permission")
    error.__cause__ = AccessRefused("no permission")
    return error


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (NotSent("blocked"), "again"),
        (BusClosed("closed"), "again"),
        (Rejected("full"), "marked"),
        (PublishUnknown("lost"), "marked"),
        (MessageTooLarge("large"), "left"),
        (EncodingError("header"), "left"),
        (Unroutable("nobody"), "end"),
        (ExchangeMissing("none"), "end"),
        (denied(), "end"),
    ],
)
def test_only_what_surely_did_not_arrive_is_sent_again_without_a_mark(error: PublishError, fate: str) -> None:
    assert fate_of(error, QUEUE) == fate


def test_a_delayed_event_that_nobody_wants_stays() -> None:
    assert fate_of(Unroutable("nobody"), LATER) == "left"


def test_a_report_sums_its_queues() -> None:
    report = MoveReport(
        queues=(MovedQueue(name="a", moved=3, marked=1, left=1), MovedQueue(name="b", moved=4, marked=2))
    )
    assert (report.moved, report.marked, report.left) == (7, 3, 1)
