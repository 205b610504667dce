"""The broker dies in the middle: what was confirmed is handled, and everybody goes on by itself."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import AsyncEventBus, EventBus, PublishError, Request, event

MESSAGES = 5000


@event("recovery.counted")
@dataclass(frozen=True)
class Counted:
    number: int


@event("recovery.echo")
@dataclass(frozen=True)
class Echo(Request[int]):
    number: int


@pytest.fixture(scope="module")
def mortal() -> Iterator[LocalBroker]:
    """A broker of our own to kill."""
    with LocalBroker() as broker:
        yield broker


def eventually(check: Callable[[], bool], timeout: float = 60.0) -> bool:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if check():
            return True
        threading.Event().wait(0.05)
    return False


def kill_in_the_middle(broker: LocalBroker, progress: Callable[[], int]) -> threading.Thread:
    """Kill the broker once some messages are through, and start it again."""

    broker.sync()  # the promise is about queues that are on disk

    def run() -> None:
        eventually(lambda: progress() > MESSAGES // 5, 60)
        broker.kill()
        broker.start()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.timeout(180)
def test_sync_no_confirmed_message_is_lost_and_all_go_on(mortal: LocalBroker) -> None:
    handled: set[int] = set()
    confirmed: set[int] = set()
    outcomes: list[PublishError] = []
    consumer = EventBus(mortal.url, service="recovery-sync", timeout=60)
    publisher = EventBus(mortal.url, service="recovery-sync", timeout=60)

    @consumer.subscribe(Counted, concurrency=4)
    def count(event: Counted) -> None:
        handled.add(event.number)

    consumer.start()
    killer = kill_in_the_middle(mortal, lambda: len(confirmed))

    def note(number: int, error: PublishError | None) -> None:
        if error is None:
            confirmed.add(number)
        else:
            outcomes.append(error)

    receipts = []
    for number in range(MESSAGES):
        receipt = publisher.submit(Counted(number))
        receipt.add_done_callback(lambda r, n=number: note(n, r.error()))  # type: ignore[misc]
        receipts.append(receipt)
        if number % 50 == 0:
            receipt.error()
    for receipt in receipts:
        receipt.error()
    killer.join()
    assert len(confirmed) + len(outcomes) == MESSAGES
    assert not outcomes, outcomes[:3]
    assert eventually(lambda: confirmed <= handled), len(confirmed - handled)
    assert publisher.health().reconnects >= 1
    publisher.publish(Counted(-1))
    assert eventually(lambda: -1 in handled, 10)
    assert publisher.stop(10).clean
    assert consumer.stop(10).clean


@pytest.mark.timeout(180)
def test_async_no_confirmed_message_is_lost_and_all_go_on(mortal: LocalBroker) -> None:
    handled: set[int] = set()
    confirmed: set[int] = set()
    failed: list[PublishError] = []

    async def run() -> None:
        consumer = AsyncEventBus(mortal.url, service="recovery-async", timeout=60)
        publisher = AsyncEventBus(mortal.url, service="recovery-async", timeout=60)

        @consumer.subscribe(Counted, concurrency=4)
        async def count(event: Counted) -> None:
            handled.add(event.number)

        await consumer.start()
        killer = kill_in_the_middle(mortal, lambda: len(confirmed))

        async def one(number: int) -> None:
            try:
                await publisher.publish(Counted(number))
                confirmed.add(number)
            except PublishError as error:
                failed.append(error)

        for start in range(0, MESSAGES, 100):
            await asyncio.gather(*(one(n) for n in range(start, start + 100)))
        await asyncio.to_thread(killer.join)
        assert len(confirmed) + len(failed) == MESSAGES
        assert not failed, failed[:3]
        for _ in range(1200):
            if confirmed <= handled:
                break
            await asyncio.sleep(0.05)
        assert confirmed <= handled, len(confirmed - handled)
        assert publisher.health().reconnects >= 1
        await publisher.publish(Counted(-1))
        assert (await publisher.stop(10)).clean
        assert (await consumer.stop(10)).clean

    asyncio.run(run())


@pytest.mark.timeout(120)
def test_pending_requests_fail_at_once_when_the_connection_is_lost_and_later_ones_are_answered(
    mortal: LocalBroker,
) -> None:
    from eventbus import RequestLost

    go = threading.Event()
    begun = threading.Event()
    responder = EventBus(mortal.url, service="recovery-echo")

    @responder.respond(Echo)
    def echo(request: Echo) -> int:
        if request.number == 0:
            begun.set()
            go.wait(30)
        return request.number

    responder.start()
    caller = EventBus(mortal.url, service="recovery-caller")
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            caller.request(Echo(0), timeout=60)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(10)
    began = time.monotonic()
    mortal.kill()
    thread.join(20)
    assert time.monotonic() - began < 10
    assert [type(error) for error in caught] == [RequestLost]
    go.set()
    mortal.start()
    responder.wait_ready(60)
    assert caller.request(Echo(7), timeout=30) == 7
    caller.stop(5)
    responder.stop(5)
