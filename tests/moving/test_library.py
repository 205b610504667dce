"""What a move carries over, from one transport to another, for threads and for a loop."""

from __future__ import annotations

import inspect
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from eventbus_memory import MemoryTransport

from eventbus import ConfigurationError, ConnectionFailed, Delivery, TopologyMismatch
from eventbus._settlement import Retry
from eventbus.dead_letters import DeadLetters
from eventbus.moving import AsyncMove, Move, MovedQueue
from eventbus.testing import eventually
from eventbus.transport import Incoming, Message, Queue, retry_copy
from tests.moving.conftest import Ends, Look, Sent, Side


def numbers(side: Side) -> list[int]:
    return [delivery.headers["number"] for delivery in side.got]


def test_messages_arrive_in_order_with_their_ids_as_first_attempts(ends: Ends) -> None:
    ends.prepare()
    ids = ends.source.publish(range(300))
    report = ends.move()
    assert report.queues == (MovedQueue(name=ends.source.queue, moved=300),)
    assert (report.problems, report.interrupted, report.shared, ends.source.waiting()) == ((), False, (), 0)
    got = ends.destination.serve(300)
    assert [delivery.id for delivery in got] == ids
    assert {(d.attempt, d.redelivered, d.first_seen) for d in got} == {(1, False, None)}
    assert {(d.exchange, d.topic) for d in got} == {("eventbus.events", "parcels.sent.se")}


def test_everything_that_belongs_to_a_message_arrives(ends: Ends) -> None:
    ends.prepare()
    headers = {
        "text": "ä", "bytes": b"\x00\xff", "yes": True, "none": None, "number": 2**40, "float": 0.5,
        "time": datetime(2026, 1, 1, tzinfo=UTC), "money": Decimal("1.20"), "list": [1, {"a": "b"}],
    }  # fmt: skip
    published = Message(
        exchange="eventbus.events", topic="parcels.sent.no", body=b'{"number": 7}', id="own-id", type="parcels.sent",
        source="s", time=1_700_000_000.25, subject="x", dataschema="https://a/b", headers=headers, priority=3,
        correlation_id="c", reply_to="nobody",
    )  # fmt: skip
    ends.source.raw(published)
    assert ends.move().moved == 1
    (delivery,) = ends.destination.serve(1)
    assert delivery.message == published


def test_a_message_without_an_id_of_another_client_is_moved_too(ends: Ends) -> None:
    ends.prepare()
    ends.source.raw(Message(exchange="", topic=ends.source.queue, body=b'{"number": 1}', id="", type=""))
    assert ends.move().moved == 1
    (delivery,) = ends.destination.serve(1)
    assert (delivery.message.body, delivery.topic) == (b'{"number": 1}', ends.source.queue)


def test_a_retry_goes_on_with_its_attempt_and_its_first_failure(ends: Ends) -> None:
    ends.prepare()
    published = Message(
        exchange="eventbus.events", topic="parcels.sent.no", body=b'{"number": 1}', id="x", type="parcels.sent",
        source="s",
    )  # fmt: skip
    failed = Incoming(message=published, consumer="c", queue=ends.source.queue, attempt=2, first_seen=1_700_000_000.0)
    ends.source.raw(retry_copy(failed))
    report = ends.move()
    assert (report.moved, report.marked) == (1, 1)
    (delivery,) = ends.destination.serve(1)
    assert (delivery.attempt, delivery.first_seen) == (3, 1_700_000_000.0)
    assert (delivery.exchange, delivery.topic, delivery.id) == ("eventbus.events", "parcels.sent.no", "x")


def test_what_was_handed_out_before_is_marked_and_the_rest_is_not(ends: Ends) -> None:
    ends.prepare()
    ids = ends.source.publish(range(5))
    looked = {incoming.message.id for incoming in ends.source.look(2)}
    eventually(lambda: ends.source.waiting() == 5, 20)
    report = ends.move()
    assert (report.moved, report.marked) == (5, 2)
    got = ends.destination.serve(5)
    assert {d.id for d in got if d.attempt > 1} == looked == set(ids[:2])


def test_a_limit_ends_a_move_and_the_next_one_goes_on(ends: Ends) -> None:
    ends.prepare()
    ids = ends.source.publish(range(50))
    report = ends.move(limit=20)
    assert (report.moved, report.interrupted) == (20, True)
    eventually(lambda: ends.source.waiting() == 30, 20)
    assert ends.move().moved == 30
    assert sorted(d.id for d in ends.destination.serve(50)) == sorted(ids)


def test_a_dry_run_counts_and_hands_nothing_out(ends: Ends) -> None:
    ends.prepare()
    ends.source.publish(range(5))
    report = ends.move(dry_run=True)
    assert (report.moved, report.dry_run, report.problems) == (5, True, ())
    assert ends.source.waiting() == 5
    assert not any(incoming.redelivered for incoming in ends.source.look(5))


def test_a_queue_that_the_destination_lacks_is_an_error_and_nothing_is_removed(ends: Ends) -> None:
    ends.source.prepare()
    ends.source.publish(range(5))
    (problem,) = ends.move(dry_run=True).problems
    assert "has no queue" in problem
    with pytest.raises(TopologyMismatch, match="start its service there once"):
        ends.move()
    assert ends.source.waiting() == 5
    assert not any(incoming.redelivered for incoming in ends.source.look(5))


def test_the_program_has_the_queues_declared_that_the_destination_lacks(ends: Ends) -> None:
    topology = ends.source.prepare().topology()
    ends.source.publish(range(20))
    assert ends.move(how={"topology": topology}).moved == 20
    assert ends.destination.waiting() == 20
    ends.destination.publish(range(20, 21))  # its bindings are there too
    ends.destination.serve(21)
    assert numbers(ends.destination) == list(range(21))


def test_a_queue_that_was_named_and_is_not_there_is_an_error_and_one_of_the_program_is_only_missing(
    ends: Ends,
) -> None:
    with pytest.raises(TopologyMismatch, match="the source has no queue 'none'"):
        ends.move(how={"queues": ["none"]})
    report = ends.move(how={"topology": ends.source.service().topology()})
    assert (report.moved, report.missing) == (0, (ends.source.queue,))


def test_dead_letters_come_along_where_they_are_meant(ends: Ends) -> None:
    ends.destination.prepare()

    def fail(sent: Sent, delivery: Delivery) -> None:
        raise LookupError(f"no {sent.number}")

    bus = ends.source.service(fail, retry=Retry(attempts=1))
    bus.start()
    ids = ends.source.publish(range(3))
    letters = DeadLetters(bus)
    eventually(lambda: ends.source.waiting(f"{ends.source.queue}.dead") == 3, 20)
    bus.stop(5)
    before = {dead.id: (dead.reason, dead.error, dead.died, dead.topic) for dead in letters.list()}
    eventually(lambda: ends.source.waiting(f"{ends.source.queue}.dead") == 3, 20)
    assert ends.move().moved == 0
    assert ends.move(how={"queues": [ends.source.queue], "dead_letters": True}).moved == 3
    there = DeadLetters(ends.destination.target, queues=[ends.destination.queue])
    assert {dead.id: (dead.reason, dead.error, dead.died, dead.topic) for dead in there.list()} == before
    assert there.replay().done == 3
    assert sorted(d.id for d in ends.destination.serve(3)) == sorted(ids)


def test_what_cannot_be_moved_stays_and_does_not_stop_the_rest(ends: Ends) -> None:
    ends.prepare()
    large = Message(exchange="", topic=ends.source.queue, body=b" " * 2000, id="large", type="parcels.sent", source="s")
    for start in range(0, 30, 3):
        ends.source.publish(range(start, start + 3))
        ends.source.raw(large)
    report = ends.move(how={"queues": [ends.source.queue], "max_body": 1000, "window": 4})
    assert (report.moved, report.left) == (30, 10)
    (problem,) = report.problems
    assert "cannot be moved" in problem
    assert problem.endswith("(10)")
    eventually(lambda: ends.source.waiting() == 10, 20)
    ends.destination.serve(30)
    assert sorted(numbers(ends.destination)) == list(range(30))


def test_follow_carries_what_comes_until_it_is_stopped(ends: Ends) -> None:
    ends.prepare()
    ends.source.publish(range(10))
    moving = ends.moving()
    moved: list[str] = []
    reports: list[object] = []
    thread = threading.Thread(
        target=lambda: reports.append(ends.run(moving, follow=True, moved=lambda queue, id: moved.append(id)))
    )
    thread.start()
    eventually(lambda: len(moved) == 10, 20)
    ends.source.publish(range(10, 20))
    eventually(lambda: len(moved) == 20, 20)
    moving.stop()
    thread.join(20)
    assert not thread.is_alive()
    ends.destination.serve(20)
    assert numbers(ends.destination) == list(range(20))


def test_several_queues_are_moved_at_once_and_each_in_its_order(memory: Ends) -> None:
    queues = [f"{memory.group}.q{number}" for number in range(5)]
    for side in (memory.source, memory.destination):
        for queue in queues:
            side.target.broker.declare(Queue(name=queue))  # type: ignore[union-attr]
    memory.source.raw(
        *(Message(exchange="", topic=q, body=b"", id=f"{n}", type="t") for n in range(100) for q in queues)
    )
    assert memory.move(how={"group": memory.group, "window": 20}).moved == 500
    for queue in queues:
        found = memory.destination.target.broker.messages(queue)  # type: ignore[union-attr]
        assert [message.id for message in found] == [f"{n}" for n in range(100)]


def test_without_a_name_all_queues_go_and_what_was_not_meant_is_counted(memory: Ends) -> None:
    for side in (memory.source, memory.destination):
        for name in ("a.x", "b.x", "a.x.dead"):
            side.target.broker.declare(Queue(name=name))  # type: ignore[union-attr]
    memory.source.raw(*(Message(exchange="", topic=n, body=b"", id=n, type="t") for n in ("a.x", "b.x", "a.x.dead")))
    report = memory.move(how={"group": None})
    assert [(q.name, q.moved) for q in report.queues] == [("a.x", 1), ("b.x", 1)]
    assert report.beside == {"a.x.dead": 1}


def test_a_source_that_cannot_list_its_queues_wants_names(rabbit: Ends) -> None:
    with pytest.raises(ConfigurationError, match="name them"):
        rabbit.move(how={"group": "x"})


def test_a_message_that_waits_arrives_at_its_time_and_never_before(rabbit: Ends) -> None:
    """One that came to its queue with a rest of its wait, as a delayed message does between two steps."""
    rabbit.prepare()
    due = time.time() + 3.0
    waits = {"eventbus-deliver-at": due, "eventbus-wait-rest": 30.0}
    rabbit.source.raw(
        Message(
            exchange="", topic=rabbit.source.queue, body=b'{"number": 1}', id="x", type="parcels.sent", source="s",
            headers=waits,
        )
    )  # fmt: skip
    came: list[float] = []
    assert rabbit.move().moved == 1
    rabbit.destination.serve(1, handle=lambda sent, delivery: came.append(time.time()))
    assert due - 0.1 <= came[0] <= due + 20


def test_a_time_to_live_goes_along(rabbit: Ends) -> None:
    rabbit.prepare()
    rabbit.source.publish(range(1), ttl=60.0)
    rabbit.move()
    (incoming,) = rabbit.destination.look(1)
    assert incoming.message.ttl is not None
    assert 30 < incoming.message.ttl <= 60


def test_priorities_are_kept(memory: Ends) -> None:
    for side in (memory.source, memory.destination):
        side.target.broker.declare(Queue(name="p", type="classic", max_priority=9))  # type: ignore[union-attr]
    memory.source.raw(*(Message(exchange="", topic="p", body=b"", id=f"{n}", type="t", priority=n) for n in (1, 7, 3)))
    memory.move(how={"queues": ["p"]})
    found = memory.destination.target.broker.messages("p")  # type: ignore[union-attr]
    assert [(message.id, message.priority) for message in found] == [("7", 7), ("3", 3), ("1", 1)]


def test_a_rate_is_kept(memory: Ends) -> None:
    memory.prepare()
    memory.source.publish(range(20))
    began = time.monotonic()
    memory.move(rate=100)
    assert 0.19 <= time.monotonic() - began < 20


def test_consumers_at_the_source_go_on_beside_a_move(ends: Ends) -> None:
    ends.prepare()
    bus = ends.source.service()
    bus.start()
    moving = ends.moving()
    done: list[int] = []
    thread = threading.Thread(target=lambda: ends.run(moving, follow=True, moved=lambda queue, id: done.append(1)))
    thread.start()
    ids = ends.source.publish(range(400))
    eventually(lambda: len(done) + len(ends.source.got) >= 400, 30)
    moving.stop()
    thread.join(20)
    bus.stop(5)
    ends.destination.serve(400 - len(ends.source.got))
    handled = [delivery.id for delivery in (*ends.source.got, *ends.destination.got)]
    assert sorted(handled) == sorted(ids)


def test_another_active_consumer_is_told_of(memory: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventbus._moving._emptying.STALLED_SECONDS", 0.2)
    queue = Queue(name="one", single_active_consumer=True)
    for side in (memory.source, memory.destination):
        side.target.broker.declare(queue)  # type: ignore[union-attr]
    memory.source.raw(*(Message(exchange="", topic="one", body=b"", id=f"{n}", type="t") for n in range(3)))
    with Look(memory.source.target) as other:
        other.inside("one", 1)
        report = memory.move(how={"queues": ["one"]})
    assert report.moved == 0
    assert "another consumer" in report.problems[0]


def test_buses_may_be_given_and_bring_their_queues(memory: Ends) -> None:
    bus = memory.source.prepare()
    memory.source.publish(range(3))
    moving = (Move if memory.runner.flavour == "sync" else AsyncMove)(bus, memory.destination.target)
    assert memory.run(moving).moved == 3


def test_source_and_destination_must_differ() -> None:
    transport = MemoryTransport()
    with pytest.raises(ConfigurationError, match="the same"):
        Move(transport, transport)
    with pytest.raises(ConfigurationError, match="the same"):
        Move("amqp://localhost/x", "amqp://localhost/x")
    with pytest.raises(ConfigurationError, match="not 7"):
        Move(transport, 7)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"limit": 0}])
def test_numbers_that_mean_nothing_are_refused(memory: Ends, options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="above 0"):
        memory.move(**options)


def test_an_unreachable_side_is_an_error_in_time(memory: Ends) -> None:
    memory.source.prepare()
    moving = (Move if memory.runner.flavour == "sync" else AsyncMove)(
        memory.source.target, "amqp://localhost:1/", queues=[memory.source.queue], timeout=0.5
    )
    with pytest.raises(ConnectionFailed):
        memory.run(moving)


def test_both_classes_are_twins() -> None:
    for name in ("run", "stop"):
        ours, theirs = getattr(Move, name), getattr(AsyncMove, name)
        assert inspect.signature(ours) == inspect.signature(theirs), name
    assert inspect.iscoroutinefunction(AsyncMove.run)
