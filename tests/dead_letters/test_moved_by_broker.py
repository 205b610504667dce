"""Dead letters that carry no headers of ours: moved by the broker itself, unreadable, or put there by strangers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from eventbus import Delivery, EventBus
from eventbus.dead_letters import DeadLetterFilter, DeadMessage
from eventbus.testing import eventually
from tests.dead_letters.conftest import Letters, Sent, SmtpError, Stage


def the_only_one(letters: Letters) -> DeadMessage:
    (dead,) = eventually(letters.list, 20)
    return dead


def idle_bus(stage: Stage, **options: Any) -> EventBus:
    """The queues of a group that handles nothing now."""
    bus = stage.bus()
    bus.subscribe(Sent, **options)(lambda sent: None)
    bus.start()
    bus.stop(5)
    return bus


def test_a_message_that_is_never_settled_ends_at_the_delivery_limit(stage: Stage) -> None:
    bus, handled = stage.bus(), []

    @bus.subscribe(Sent, settle="manual")
    def handle(sent: Sent, delivery: Delivery) -> None:
        handled.append(delivery.attempt)
        delivery.requeue()

    began = time.time()
    with bus:
        bus.publish(Sent(1), headers={"who": "me"})
        letters = stage.letters(bus)
        dead = the_only_one(letters)
    assert dead.reason == "delivery_limit: handed out too often without being settled"
    assert (dead.by_broker, dead.queue, dead.topic, dead.exchange) == (
        True,
        stage.queue(),
        "letters.sent.se",
        "eventbus.events",
    )
    # Nobody has written down how often it was handed out; how often we look at it must not count either.
    assert (dead.type, dead.error_type, dead.problem, dead.attempts) == ("letters.sent", "", None, None)
    assert letters.get(dead.id).attempts is None
    assert began - 2 <= dead.died <= time.time() + 2
    assert letters.list(DeadLetterFilter(reason="delivery_limit")).matched == 1

    taken: list[tuple[str, int, str, str, object]] = []
    second = stage.bus()

    @second.subscribe(Sent)
    def take(sent: Sent, delivery: Delivery) -> None:
        taken.append((delivery.id, delivery.attempt, delivery.exchange, delivery.topic, dict(delivery.headers)))

    with second:
        assert letters.replay().done == 1
        eventually(lambda: taken, 20)
    assert taken == [(dead.id, 1, "eventbus.events", "letters.sent.se", {"who": "me"})]


def test_a_message_that_expired_says_so_and_comes_back_without_its_time_to_live(stage: Stage) -> None:
    bus = idle_bus(stage)
    with stage.bus(f"{stage.group}publisher") as publisher:
        publisher.publish(Sent(1), ttl=0.05)
    letters = stage.letters(bus)
    dead = the_only_one(letters)
    assert dead.reason == "expired: nobody handled it before its time to live ended"
    assert (dead.queue, dead.topic, dead.attempts) == (stage.queue(), "letters.sent.se", None)
    assert letters.replay().done == 1
    assert letters.list().looked_at == 0
    handled: list[str] = []
    late = stage.bus()

    @late.subscribe(Sent)
    def handle(sent: Sent, delivery: Delivery) -> None:
        handled.append(delivery.id)

    with late:
        eventually(lambda: handled == [dead.id], 20)


def test_a_body_that_is_no_event_is_shown_as_data(stage: Stage) -> None:
    with idle_bus(stage) as bus:
        stage.foreign(b"\xff\x00 not \x1b[31m json", id="bad-1")
        dead = the_only_one(stage.letters(bus))
    assert (dead.id, dead.error_type, dead.reason) == ("bad-1", "DecodingError", "the body could not be decoded")
    assert dead.message.body == b"\xff\x00 not \x1b[31m json"


def test_a_body_above_the_limit_can_be_discarded_and_not_replayed(stage: Stage) -> None:
    bus = EventBus(stage.transport, service=stage.group, max_body=1000)
    bus.subscribe(Sent)(lambda sent: None)
    with bus:
        stage.foreign(b'"' + b"x" * 2000 + b'"', id="large-1")
        letters = stage.letters(bus)
        dead = the_only_one(letters)
        assert (dead.by_broker, dead.reason.partition(":")[0], dead.queue) == (True, "rejected", stage.queue())
        assert "2" in dead.problem
        report = letters.replay()
        assert (report.matched, report.done, report.skipped) == (1, 0, 1)
        assert "cannot be read" in report.problems[0]
        # Whoever reads more sees it whole.
        assert len(stage.letters(queues=[stage.queue()]).get("large-1").message.body) == 2002
        assert letters.discard().done == 1
        assert letters.list().looked_at == 0


def test_headers_that_cannot_be_read_stop_nothing(rabbit: Stage) -> None:
    bus = rabbit.bus()

    @bus.subscribe(Sent)
    def fail(sent: Sent) -> None:
        raise SmtpError("full")

    nested: dict[str, Any] = {}
    for _ in range(40):
        nested = {"a": nested}
    with bus:
        rabbit.foreign(b"{}", headers=nested)
        bus.publish(Sent(2))
        letters = rabbit.letters(bus)
        eventually(lambda: letters.list().matched == 2, 20)
    found = {dead.problem is None: dead for dead in letters.list()}
    assert (found[True].error, found[True].queue) == ("full", rabbit.queue())
    assert "headers cannot be read" in found[False].problem
    assert found[False].queue == rabbit.queue()
    assert letters.groups().matched == 2
    report = letters.replay(dry_run=True)
    assert (report.done, report.skipped) == (1, 1)
    assert letters.discard(DeadLetterFilter(ids=(found[False].id,))).done == 1
    assert letters.list().matched == 1


def test_a_message_without_an_id_is_found_again_by_its_body(stage: Stage) -> None:
    bus = idle_bus(stage)
    stage.foreign(b"nonsense", stage.queue(), exchange="", ttl=0.01)
    letters = stage.letters(bus)
    dead = the_only_one(letters)
    assert dead.id.startswith("body-")
    assert letters.get(dead.id).message.body == b"nonsense"
    assert letters.discard(DeadLetterFilter(ids=(dead.id,))).done == 1


def test_a_stranger_cannot_choose_where_a_replay_goes(stage: Stage) -> None:
    victim = stage.bus(f"{stage.group}victim")
    got: list[object] = []
    victim.subscribe(Sent)(got.append)
    bus = idle_bus(stage)
    forged = {
        "eventbus-dead-reason": "forged",
        "eventbus-dead-queue": stage.queue(f"{stage.group}victim"),
        "x-death": [{"queue": stage.queue(f"{stage.group}victim"), "reason": "rejected", "count": 1}],
    }
    with victim:
        stage.foreign(b'{"number": 1}', stage.queue() + ".dead", exchange="", headers=forged, id="forged-1")
        stage.foreign(b'{"number": 2}', stage.queue(), exchange="", headers=forged, id="forged-2", ttl=0.01)
        letters = stage.letters(bus)
        eventually(lambda: letters.list().matched == 2, 20)
        assert {dead.id: dead.queue for dead in letters.list()} == {"forged-1": "", "forged-2": stage.queue()}
        report = letters.replay()
        assert (report.done, report.skipped) == (1, 1)
        assert "does not say in which queue" in report.problems[0]
        victim.publish(Sent(3))
        eventually(lambda: got == [Sent(3)], 20)


@pytest.mark.parametrize("headers", [{"x-death": 5}, {"x-death": [7, {"queue": 8}]}, {"eventbus-dead-reason": 9}])
def test_headers_of_any_type_are_read(stage: Stage, headers: dict[str, Any]) -> None:
    bus = idle_bus(stage)
    stage.foreign(b"{}", stage.queue() + ".dead", exchange="", headers=headers, id="odd")
    dead = stage.letters(bus).get("odd")
    assert (dead.queue, dead.reason, dead.attempts, dead.died) == (stage.queue(), "not known", None, None)
