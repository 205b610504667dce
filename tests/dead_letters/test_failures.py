"""What becomes of dead letters when something goes wrong in the middle; and that both classes are twins."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from eventbus_memory import MemoryTransport

from eventbus import ConfigurationError, ConnectionFailed, Delivery, PublishUnknown, Rejected
from eventbus._dead_letters import _walking
from eventbus.dead_letters import AsyncDeadLetters, DeadLetterFilter, DeadLetters, DeadMessage
from eventbus.testing import eventually
from eventbus.testing._facade import Runner, SyncRunner
from tests.dead_letters.conftest import LocalBroker, Sent, SmtpError, Stage


@pytest.fixture
def memory(runner: Runner) -> Iterator[Stage]:
    stage = Stage(runner, MemoryTransport(), None)
    yield stage
    stage.close()


def faults(stage: Stage) -> object:
    return stage.transport.faults  # type: ignore[union-attr]


def waiting(stage: Stage) -> list[str]:
    """The ids that wait in the group's queue."""
    return [message.id for message in stage.transport.broker.messages(stage.queue())]  # type: ignore[union-attr]


def test_a_refused_copy_ends_the_replay_and_its_dead_letter_stays(memory: Stage) -> None:
    letters = memory.letters(memory.fill(5))
    faults(memory).nack(topic=memory.queue())  # type: ignore[attr-defined]
    with pytest.raises(Rejected) as caught:
        letters.replay()
    assert caught.value.__notes__ == ["0 dead letters were dealt with before; the others are where they were"]
    assert (len(waiting(memory)), letters.list().matched) == (0, 5)
    assert letters.replay().done == 5


def test_a_copy_that_nobody_confirms_may_be_there_twice_and_is_never_lost(memory: Stage) -> None:
    bus = memory.fill(5)
    letters = memory.letters(bus, timeout=0.1)
    moved: list[str] = []

    def count(dead: DeadMessage) -> None:
        moved.append(dead.id)
        if len(moved) == 2:
            faults(memory).never_confirm(topic=memory.queue())  # type: ignore[attr-defined]

    with pytest.raises(PublishUnknown):
        letters.replay(moved=count)
    assert letters.list().matched == 3
    assert letters.replay().done == 3
    assert sorted(Counter(waiting(memory)).values()) == [1, 1, 1, 1, 2]


def test_a_lost_connection_ends_the_replay_and_the_next_one_goes_on(memory: Stage) -> None:
    letters = memory.letters(memory.fill(6))
    moved: list[str] = []

    def cut(dead: DeadMessage) -> None:
        moved.append(dead.id)
        if len(moved) == 2:
            faults(memory).disconnect()  # type: ignore[attr-defined]

    with pytest.raises(ConnectionFailed, match="lost while going through dead letters"):
        letters.replay(moved=cut)
    assert letters.list().matched == 4
    assert letters.replay().done == 4
    # A loop hears of the loss one turn later, when the next message may be on its way.
    assert (len(set(waiting(memory))), len(waiting(memory)) <= 7) == (6, True)


def test_a_failing_callback_is_the_callers_and_gives_everything_back(stage: Stage) -> None:
    letters = stage.letters(stage.fill(6))

    def fail(dead: DeadMessage) -> None:
        raise LookupError("of the test")

    with pytest.raises(LookupError):
        letters.discard(dry_run=True, moved=fail)
    assert letters.list().matched == 6


@pytest.mark.parametrize("transport", ["memory", "rabbitmq"])
def test_a_cancelled_replay_loses_nothing(transport: str, broker: LocalBroker) -> None:
    real = transport == "rabbitmq"
    stage = Stage(SyncRunner(), broker.url if real else MemoryTransport(), broker if real else None)
    bus = stage.fill(60)
    moved: list[str] = []

    async def interrupted() -> None:
        letters = AsyncDeadLetters(bus)
        task = asyncio.create_task(letters.replay(rate=200, moved=lambda dead: moved.append(dead.id)))
        while len(moved) < 10:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert 10 <= len(moved) < 60
    letters = DeadLetters(bus)
    eventually(lambda: letters.list().matched in (60 - len(moved), 60 - len(moved) - 1), 20)
    assert letters.replay(rate=None).matched >= 60 - len(moved) - 1
    handled: list[str] = []
    late = stage.bus()

    @late.subscribe(Sent)
    def handle(sent: Sent, delivery: Delivery) -> None:
        handled.append(delivery.id)

    with late:
        eventually(lambda: len(set(handled)) == 60, 20)
    assert sum(times - 1 for times in Counter(handled).values()) <= 1
    stage.close()


def test_a_long_replay_gives_back_what_it_holds_and_goes_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker waits for a settlement only so long, so what is not meant must not be held for ever."""
    bus = stage.fill(60, lambda number: SmtpError("full") if number % 2 else KeyError(number))
    walks: list[str] = []
    opened = _walking.Walk.steps

    def steps(walk: _walking.Walk, visitor: _walking.Visitor) -> object:
        walks.append(walk._queue)
        return opened(walk, visitor)

    monkeypatch.setattr(_walking.Walk, "steps", steps)
    monkeypatch.setattr(_walking, "RENEW_SECONDS", 0.1)
    letters = stage.letters(bus)
    report = letters.replay(DeadLetterFilter(error_type="SmtpError"), rate=100)
    assert (report.matched, report.done, report.skipped) == (30, 30, 0)
    assert len(walks) >= 2
    assert letters.list().matched == 30


def test_a_limit_counts_what_was_done(stage: Stage) -> None:
    bus = stage.fill(3)
    for number in range(3):
        stage.foreign(
            b"{}", stage.queue() + ".dead", exchange="", headers={"eventbus-dead-queue": "x"}, id=f"x{number}"
        )
    letters = stage.letters(bus)
    report = letters.replay(limit=2)
    assert (report.done, letters.list().matched) == (2, 4)
    report = letters.replay(limit=2)
    assert (report.done, report.skipped, report.matched) == (1, 3, 4)


def test_nothing_is_left_running(stage: Stage) -> None:
    letters = stage.letters(stage.fill(3))
    letters.list()
    before = threading.active_count()
    for _ in range(5):
        letters.list()
    eventually(lambda: threading.active_count() <= before)


def test_a_transport_that_cannot_look_into_queues_says_so() -> None:
    class Link:
        def close(self, timeout: float) -> None:
            """Nothing."""

    class Blind(MemoryTransport):
        def sync_link(self, settings: object, on_status: object) -> Link:  # type: ignore[override]
            return Link()

    with pytest.raises(ConfigurationError, match="cannot look into queues"):
        DeadLetters(Blind(), queues=["x"]).list()


def test_both_classes_are_twins() -> None:
    def public(cls: type) -> dict[str, object]:
        return {n: m for n, m in inspect.getmembers(cls, inspect.isfunction) if not n.startswith("_")}

    ours, theirs = public(DeadLetters), public(AsyncDeadLetters)
    assert set(ours) == set(theirs) == {"list", "get", "groups", "replay", "discard"}
    for name, method in ours.items():
        assert inspect.signature(method) == inspect.signature(theirs[name]), name  # type: ignore[arg-type]
        assert inspect.iscoroutinefunction(theirs[name])
