"""Dead letters are listed, replayed and discarded, in memory and over a real RabbitMQ, by both classes."""

from __future__ import annotations

import threading
import time

import pytest

from eventbus import Delivery, EventBus, Retry, TopologyMismatch
from eventbus.dead_letters import DeadLetterFilter, DeadLetters
from eventbus.testing import eventually
from tests.dead_letters.conftest import Sent, SmtpError, Stage


def test_a_failed_event_is_listed_and_replayed_to_the_group_that_failed_alone(stage: Stage) -> None:
    seen: list[tuple[str, str, int, str, str, object]] = []
    broken = threading.Event()
    broken.set()
    failing, other = stage.bus(), stage.bus(f"{stage.group}other")

    def note(group: str, delivery: Delivery) -> None:
        seen.append(
            (group, delivery.id, delivery.attempt, delivery.exchange, delivery.topic, delivery.headers.get("who"))
        )

    @failing.subscribe(Sent)
    def fail(sent: Sent, delivery: Delivery) -> None:
        note("failing", delivery)
        if broken.is_set():
            raise SmtpError("mailbox full")

    @other.subscribe(Sent)
    def take(sent: Sent, delivery: Delivery) -> None:
        note("other", delivery)

    before = time.time()
    with failing, other:
        failing.publish(Sent(1), headers={"who": "me"})
        letters = stage.letters(failing)
        found = eventually(letters.list)
        (dead,) = found
        assert (found.matched, found.looked_at, found.missing) == (1, 1, ())
        assert (dead.type, dead.topic, dead.exchange) == ("letters.sent", "letters.sent.se", "eventbus.events")
        assert (dead.queue, dead.dead_queue) == (stage.queue(), stage.queue() + ".dead")
        assert (dead.reason, dead.attempts) == ("the handler failed in all 2 attempts", 2)
        assert (dead.error_type, dead.error, len(dead.digest)) == ("SmtpError", "mailbox full", 12)
        assert dead.first_seen is not None
        assert dead.died is not None
        assert before - 1 <= dead.first_seen <= dead.died <= time.time() + 1
        assert (dead.source, dead.by_broker, dead.problem) == (stage.group, False, None)
        assert abs(dead.published - before) < 60
        assert dead.message.headers["who"] == "me"

        report = letters.replay(dry_run=True)
        assert (report.matched, report.done, report.dry_run) == (1, 1, True)
        assert [again.id for again in letters.list()] == [dead.id]

        broken.clear()
        report = letters.replay()
        assert (report.matched, report.done, report.skipped, report.problems) == (1, 1, 0, ())
        exchange, topic = "eventbus.events", "letters.sent.se"
        eventually(lambda: len(seen) == 4)
        assert letters.list().looked_at == 0
    assert [entry for entry in seen if entry[0] == "other"] == [("other", dead.id, 1, exchange, topic, "me")]
    assert [entry[1:] for entry in seen if entry[0] == "failing"] == [
        (dead.id, 1, exchange, topic, "me"),
        (dead.id, 2, exchange, topic, "me"),
        (dead.id, 1, exchange, topic, "me"),
    ]


def test_what_fails_again_is_replayed_once_and_begins_anew(stage: Stage) -> None:
    bus, attempts = stage.bus(), []

    @bus.subscribe(Sent)
    def fail(sent: Sent, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        raise SmtpError("still full")

    with bus:
        bus.publish(Sent(1))
        letters = stage.letters(bus)
        (first,) = eventually(letters.list)
        report = letters.replay()
        assert report.done == 1
        again = eventually(lambda: letters.get(first.id))
        assert (again.attempts, again.error) == (2, "still full")
        assert again.first_seen >= first.died - 1
    assert attempts == [1, 2, 1, 2]


def test_a_limit_lists_those_that_died_last(stage: Stage) -> None:
    letters = stage.letters(stage.fill(30))
    found = letters.list(limit=5)
    assert (found.matched, found.looked_at, len(found)) == (30, 30, 5)
    died = [dead.died for dead in letters.list(limit=None)]
    assert died == sorted(died)
    assert [dead.died for dead in found] == died[-5:]


def test_filters_apply_together(stage: Stage) -> None:
    bus = stage.fill(12, lambda number: SmtpError("full") if number % 3 else KeyError(number))
    letters = stage.letters(bus)

    def numbers(**where: object) -> list[int]:
        return sorted(dead.message.headers["number"] for dead in letters.list(DeadLetterFilter(**where)))

    keys = [0, 3, 6, 9]
    assert numbers(error_type="KeyError") == keys
    assert numbers(error_type="KeyError", topic="letters.#") == keys
    assert numbers(error_type="KeyError", topic="other.#") == []
    assert numbers(error_type="Keyerror") == []
    assert numbers(reason="ALL 1 ATTEMPTS", type="letters.sent") == list(range(12))
    assert numbers(type="letters.other") == []
    assert numbers(group=stage.group, queue=stage.queue()) == list(range(12))
    assert numbers(group="nobody") == numbers(queue="nobody") == []
    one = letters.list(DeadLetterFilter(error_type="KeyError"), limit=1).messages[0]
    assert numbers(digest=one.digest[:6]) == keys
    assert numbers(digest=one.digest, ids=(one.id,)) == [one.message.headers["number"]]
    assert numbers(since=one.died - 60, until=one.died + 60) == list(range(12))
    assert numbers(until=one.died - 60) == numbers(since=one.died + 60) == []


def test_groups_count_what_failed_alike(stage: Stage) -> None:
    bus = stage.fill(25, lambda number: SmtpError("full") if number % 5 else KeyError(number))
    letters = stage.letters(bus)
    grouped = letters.groups()
    assert (grouped.matched, grouped.looked_at) == (25, 25)
    assert [(g.queue, g.error_type, g.count) for g in grouped] == [
        (stage.queue(), "SmtpError", 20),
        (stage.queue(), "KeyError", 5),
    ]
    biggest = grouped.groups[0]
    assert letters.get(biggest.example).digest == biggest.digest
    assert biggest.first <= biggest.last
    assert letters.groups(DeadLetterFilter(digest=biggest.digest)).matched == 20


def test_what_is_discarded_is_gone_and_the_rest_is_not(stage: Stage) -> None:
    bus = stage.fill(30, lambda number: SmtpError("full") if number % 3 else KeyError(number))
    letters = stage.letters(bus)
    where = DeadLetterFilter(error_type="KeyError")
    assert letters.discard(where, dry_run=True).done == 10
    assert letters.list().matched == 30
    gone: list[str] = []
    report = letters.discard(where, limit=4, moved=lambda dead: gone.append(dead.id))
    assert (report.matched, report.done, len(gone)) == (4, 4, 4)
    assert (letters.list(where).matched, letters.list().matched) == (6, 26)
    assert letters.get(gone[0]) is None
    assert letters.discard().done == 26
    assert letters.list().looked_at == 0


def test_looking_many_times_moves_and_loses_nothing(stage: Stage) -> None:
    letters = stage.letters(stage.fill(70))
    order: list[list[int]] = []
    # More often than the 20 deliveries that RabbitMQ 4 allows a quorum queue without a limit of its own.
    for _ in range(25):
        passed: list[int] = []
        report = letters.discard(dry_run=True, moved=lambda dead: passed.append(dead.message.headers["number"]))  # noqa: B023
        assert (report.looked_at, report.done) == (70, 70)
        order.append(passed)
    assert order == [sorted(order[0])] * 25


def test_a_replay_keeps_its_rate(stage: Stage) -> None:
    letters = stage.letters(stage.fill(21))
    began = time.monotonic()
    assert letters.replay(rate=50).done == 21
    assert time.monotonic() - began >= 20 / 50


def test_an_exhausted_limit_leaves_the_rest_for_the_next_replay(stage: Stage) -> None:
    bus = stage.fill(12)
    letters = stage.letters(bus)
    first: list[str] = []
    assert letters.replay(limit=5, moved=lambda dead: first.append(dead.id)).done == 5
    assert letters.list().matched == 7
    rest: list[str] = []
    assert letters.replay(moved=lambda dead: rest.append(dead.id)).done == 7
    assert len(set(first + rest)) == 12


def test_a_queue_that_does_not_exist_is_an_error_if_it_was_named(stage: Stage) -> None:
    with pytest.raises(TopologyMismatch, match=r"nobody\.dead.*does not exist"):
        stage.letters(queues=["nobody"]).list()
    bus = stage.bus()
    bus.subscribe(Sent)(lambda sent: None)
    found = stage.letters(bus).list()  # never started, so nothing is there yet
    assert (len(found), found.missing) == (0, (stage.queue() + ".dead",))


def test_a_replay_to_a_queue_that_is_gone_leaves_the_dead_letters(stage: Stage) -> None:
    stage.fill(3)
    _delete_queue(stage, stage.queue())
    letters = stage.letters(queues=[stage.queue()])
    report = letters.replay()
    assert (report.matched, report.done, report.skipped) == (3, 0, 3)
    assert report.problems == (f"{stage.queue()}.dead: queue '{stage.queue()}' does not exist any more (3)",)
    assert letters.list().matched == 3


def _delete_queue(stage: Stage, name: str) -> None:
    if stage.broker is not None:
        stage.broker.ctl("delete_queue", name)
    else:
        stage.transport.broker.delete_queue(name)  # type: ignore[union-attr]


def test_two_replays_at_once_share_the_work(stage: Stage) -> None:
    bus = stage.fill(120)
    moved: list[str] = []
    threads = [
        threading.Thread(target=lambda: DeadLetters(bus).replay(rate=None, moved=lambda dead: moved.append(dead.id)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(moved), len(set(moved))) == (120, 120)
    assert stage.letters(bus).list().looked_at == 0


def test_what_another_operator_holds_is_told(stage: Stage) -> None:
    bus = stage.fill(8)
    held, go_on = threading.Event(), threading.Event()

    def hold(dead: object) -> None:
        held.set()
        go_on.wait(30)

    thread = threading.Thread(target=lambda: DeadLetters(bus).discard(dry_run=True, moved=hold))
    thread.start()
    try:
        held.wait(30)
        found = stage.letters(bus).list()
        assert (found.matched, found.shared) == (0, (stage.queue() + ".dead",))
    finally:
        go_on.set()
        thread.join(30)
    assert stage.letters(bus).list().matched == 8


def test_pages_follow_each_other_through_a_long_queue(stage: Stage) -> None:
    bus = stage.fill(1500)
    letters = stage.letters(bus)
    last = letters.list(limit=1).messages[0]
    assert letters.groups().matched == 1500
    assert letters.get(last.id) is not None
    # The one that is wanted stands behind more than a page of others, which stay where they are.
    report = letters.replay(DeadLetterFilter(ids=(last.id,)))
    assert (report.matched, report.done, report.looked_at) == (1, 1, 1500)
    assert letters.list(limit=0).matched == 1499


def test_the_url_and_a_name_will_do(stage: Stage) -> None:
    stage.fill(2)
    for name in (stage.queue(), stage.queue() + ".dead"):
        letters = stage.letters(queues=[name])
        assert [queue.name for queue in letters.real.queues] == [stage.queue() + ".dead"]
        assert letters.list().matched == 2


def test_dead_letters_of_a_partitioned_subscription_go_back_to_their_partition(stage: Stage) -> None:
    bus, handled = stage.bus(), []
    broken = threading.Event()
    broken.set()

    @bus.subscribe(Sent, partitions=3, retry=Retry(attempts=1))
    def handle(sent: Sent, delivery: Delivery) -> None:
        if broken.is_set():
            raise SmtpError("full")
        handled.append((sent.number, delivery.queue))

    with bus:
        for number in range(9):
            bus.publish(Sent(number), key=str(number))
        letters = stage.letters(queues=[stage.queue()])  # by its name alone: the partitions' names follow from it
        eventually(lambda: letters.list().matched == 9, 20)
        where = {dead.queue for dead in letters.list()}
        broken.clear()
        assert letters.replay().done == 9
        eventually(lambda: len(handled) == 9, 20)
    assert {queue for _, queue in handled} == where
    assert len(where) > 1


def test_a_bus_without_dead_letter_queues_is_told_so(stage: Stage) -> None:
    with pytest.raises(Exception, match="no dead-letter queues are known"):
        stage.letters(EventBus(stage.transport, service="none"))
