"""Receipts of tasks that a transport leaves without an outcome, and what is kept of those that have one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from eventbus_memory import FaultPlan, MemoryTransport

from eventbus import AsyncEventBus, BusClosed, PublishUnknown
from eventbus._bus._async_receipts import FEW
from eventbus._bus._async_runtime import AT_ONCE
from eventbus.transport import AsyncLink


@pytest.mark.asyncio
async def test_a_transport_that_stays_silent_is_answered_for_soon_after_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with AsyncEventBus("memory://silent", timeout=0.2) as bus:
        link: AsyncLink = bus._running().link
        monkeypatch.setattr(link, "publish", lambda message, *, deadline, done: None)
        began = time.monotonic()
        with pytest.raises(PublishUnknown, match="no outcome"):
            await bus.publish({"a": 1}, topic="silent.one")
        receipt = await bus.submit({"a": 1}, topic="silent.two")
        assert isinstance(await receipt.error(), PublishUnknown)
        assert time.monotonic() - began < 5
        await bus.stop(0)


@pytest.mark.asyncio
async def test_several_tasks_may_wait_for_one_receipt_and_one_that_is_cancelled_takes_nothing_from_the_others() -> None:
    faults = FaultPlan()
    faults.never_confirm(times=1)
    async with AsyncEventBus(MemoryTransport(faults=faults), timeout=0.3) as bus:
        receipt = await bus.submit({"a": 1}, topic="silent.one")
        tasks = [asyncio.create_task(receipt.error()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert [type(error) for error in await asyncio.gather(*tasks[1:])] == [PublishUnknown] * 2


@pytest.mark.asyncio
async def test_receipts_that_have_ended_are_not_kept() -> None:
    async with AsyncEventBus("memory://kept") as bus:
        awaited = bus._running().awaited
        for number in range(20 * FEW):
            receipt = await bus.submit({"a": number}, topic="kept.one")
            awaited.add(receipt)  # as if it had been waited for before its outcome
            assert len(awaited._waiting) <= FEW + 1


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["publish", "submit"])
async def test_a_task_that_publishes_without_ever_waiting_leaves_the_loop_to_others(method: str) -> None:
    async with AsyncEventBus("memory://generous") as bus:
        async with turns_of_others() as turns:
            for number in range(10 * AT_ONCE):
                await getattr(bus, method)({"a": number}, topic="generous.one")
        assert 10 <= turns[0] <= 30


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["publish", "submit"])
async def test_a_task_that_goes_on_publishing_on_a_stopped_bus_leaves_the_loop_to_others(method: str) -> None:
    bus = AsyncEventBus("memory://stopped")
    await bus.start()
    await bus.stop()
    async with turns_of_others() as turns:
        for number in range(20):
            with pytest.raises(BusClosed):
                await getattr(bus, method)({"a": number}, topic="stopped.one")
    assert turns[0] >= 20


@asynccontextmanager
async def turns_of_others() -> AsyncIterator[list[int]]:
    """Counts the turns of the loop that another task gets meanwhile."""
    turns = [0]

    async def count() -> None:
        while True:
            await asyncio.sleep(0)
            turns[0] += 1

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    try:
        yield turns
    finally:
        counting.cancel()
