"""What becomes of messages when something goes wrong in the middle of a move."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import ConnectionFailed, TopologyMismatch
from eventbus.moving import AsyncMove
from eventbus.testing import eventually
from tests.moving.conftest import Ends, Side
from tests.moving.oracle import judge


def faults(side: Side) -> Any:
    return side.target.faults  # type: ignore[union-attr]


def at(count: int, act: Callable[[], object]) -> Callable[[str, str], None]:
    """Do it when so many messages are moved."""
    moved: list[str] = []

    def one_more(queue: str, id: str) -> None:
        moved.append(id)
        if len(moved) == count:
            act()

    return one_more


@pytest.mark.parametrize(
    ("fault", "copies", "marked"),
    [
        (lambda plan: plan.refuse(times=3), 1, 0),
        (lambda plan: plan.nack(times=3), 1, 3),
        (lambda plan: plan.never_confirm(times=3, taken=False), 1, 3),
        (lambda plan: plan.never_confirm(times=3, taken=True), 2, 3),
    ],
    ids=["not-sent", "refused", "lost", "taken-and-not-confirmed"],
)
def test_what_fails_at_the_destination_goes_again_with_a_mark_if_it_may_be_there(
    memory: Ends, fault: Callable[[Any], object], copies: int, marked: int
) -> None:
    memory.prepare()
    ids = memory.source.publish(range(20))
    fault(faults(memory.destination))
    report = memory.move(how={"timeout": 0.1, "queues": [memory.source.queue]})
    assert (report.moved, report.marked) == (20, marked)
    assert memory.destination.waiting() == 20 + 3 * (copies - 1)
    got = memory.destination.serve(20)
    eventually(lambda: len(got) == 20 + 3 * (copies - 1), 20)
    assert judge(ids, got) == 3 * (copies - 1)
    assert memory.source.waiting() == 0


def test_what_failed_goes_before_what_comes_after(memory: Ends) -> None:
    memory.prepare()
    ids = memory.source.publish(range(20))
    faults(memory.destination).never_confirm(times=None, taken=False)
    moving = memory.moving(queues=[memory.source.queue], timeout=0.1, window=5)
    thread = threading.Thread(target=lambda: memory.run(moving))
    thread.start()
    plan = faults(memory.destination)
    eventually(lambda: plan._faults[0].fired >= 7, 20)  # five in the window, then one by one
    plan.clear()
    thread.join(20)
    assert [delivery.id for delivery in memory.destination.serve(20)] == ids


def test_a_move_without_progress_ends_and_loses_nothing(memory: Ends) -> None:
    memory.prepare()
    ids = memory.source.publish(range(5))
    faults(memory.destination).nack(times=None)
    with pytest.raises(ConnectionFailed, match=r"nothing was moved for 0\.3 s") as caught:
        memory.move(how={"queues": [memory.source.queue], "patience": 0.3})
    assert caught.value.__notes__ == ["0 messages were moved before; the others are where they were"]
    assert memory.source.waiting() == 5
    faults(memory.destination).clear()
    assert memory.move().moved == 5
    judge(ids, memory.destination.serve(5))


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_lost_connection_is_made_again_and_the_move_goes_on(memory: Ends, side: str) -> None:
    memory.prepare()
    ids = memory.source.publish(range(200))
    cut = faults(getattr(memory, side)).disconnect
    report = memory.move(how={"queues": [memory.source.queue], "window": 20}, moved=at(50, cut))
    assert report.moved >= 150
    assert not report.interrupted
    assert memory.source.waiting() == 0
    got = memory.destination.serve(200)
    assert judge(ids, got) <= 20


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_lost_connection_to_rabbitmq_gives_no_message_twice_without_a_mark(
    rabbit: Ends, broker: LocalBroker, side: str
) -> None:
    rabbit.prepare()
    ids = rabbit.source.publish(range(1500))
    vhost = getattr(rabbit, side).target.rpartition("/")[2] or "/"
    vhost = "/" if vhost == "%2F" else vhost
    cutting = threading.Thread(target=broker.ctl, args=("close_all_connections", "--vhost", vhost, "the test cuts it"))
    report = rabbit.move(how={"queues": [rabbit.source.queue]}, rate=2000, moved=at(200, cutting.start))
    cutting.join()
    assert not report.interrupted
    assert report.moved > 1000
    assert rabbit.source.waiting() == 0
    got = rabbit.destination.serve(1500, prefetch=200)
    judge(ids, got)


def test_a_queue_that_goes_in_the_middle_ends_the_move(memory: Ends) -> None:
    memory.prepare()
    memory.source.publish(range(50))
    broker: Any = memory.destination.target.broker  # type: ignore[union-attr]
    with pytest.raises(TopologyMismatch, match="the destination has no queue") as caught:
        memory.move(
            how={"queues": [memory.source.queue], "window": 5},
            moved=at(10, lambda: broker.delete_queue(memory.destination.queue)),
        )
    assert "messages were moved before" in caught.value.__notes__[0]
    assert 30 <= memory.source.waiting() <= 40


def test_a_failing_callback_is_the_callers_and_what_was_not_acked_stays(ends: Ends) -> None:
    ends.prepare()
    ids = ends.source.publish(range(50))

    def fail() -> None:
        raise LookupError("of the test")

    with pytest.raises(LookupError):
        ends.move(how={"queues": [ends.source.queue], "window": 5}, moved=at(10, fail))
    ends.move()
    judge(ids, ends.destination.serve(50))


def test_a_stopped_move_ends_in_order_and_sends_nothing_twice(ends: Ends) -> None:
    ends.prepare()
    ids = ends.source.publish(range(500))
    moving = ends.moving()
    report = ends.run(moving, moved=at(100, moving.stop))
    assert report.interrupted
    assert 100 <= report.moved < 500
    eventually(lambda: ends.source.waiting() == 500 - report.moved, 20)
    assert ends.run(moving).moved == 500 - report.moved
    got = ends.destination.serve(500)
    assert judge(ids, got) == 0
    assert len(got) == 500


def test_a_cancelled_move_loses_nothing(rabbits: tuple[str, str]) -> None:
    from eventbus.testing._facade import AsyncRunner

    runner = AsyncRunner()
    ends = Ends(runner, *rabbits)
    ends.prepare()
    ids = ends.source.publish(range(500))
    moved: list[str] = []

    async def interrupted() -> None:
        move = AsyncMove(*rabbits, queues=[ends.source.queue])
        task = asyncio.create_task(move.run(rate=1000, moved=lambda queue, id: moved.append(id)))
        while len(moved) < 50:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    ends.move()
    judge(ids, ends.destination.serve(500))
    ends.close()
    runner.close()


def test_nothing_is_left_running(ends: Ends) -> None:
    ends.prepare()
    ends.move()
    before = threading.active_count()
    for _ in range(3):
        ends.move()
    eventually(lambda: threading.active_count() <= before, 20)
