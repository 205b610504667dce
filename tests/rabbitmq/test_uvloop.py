"""The async link on uvloop: its transports and its clock are not asyncio's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import uvloop
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import AsyncEventBus, Request, event, run


@event("uvloop.counted")
@dataclass(frozen=True)
class Counted:
    number: int


@event("uvloop.doubled")
@dataclass(frozen=True)
class Double(Request[int]):
    number: int


def test_it_publishes_handles_asks_and_comes_back(broker: LocalBroker) -> None:
    run(everything(broker))


async def everything(broker: LocalBroker) -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    seen: set[int] = set()
    arrived = asyncio.Event()
    async with AsyncEventBus(broker.url, service="uvloop") as bus, asyncio.timeout(60):

        @bus.subscribe(Counted, broadcast=True, prefetch=50)
        async def count(counted: Counted) -> None:
            seen.add(counted.number)
            arrived.set()

        @bus.respond(Double)
        async def double(request: Double) -> int:
            return 2 * request.number

        await bus.wait_ready()
        assert await bus.publish_many([Counted(n) for n in range(500)]) == 500
        while len(seen) < 500:
            arrived.clear()
            await arrived.wait()
        assert await asyncio.gather(*(bus.request(Double(n)) for n in range(50))) == [2 * n for n in range(50)]

        await asyncio.to_thread(broker.ctl, "close_all_connections", "a test wants it")
        while not bus.health().reconnects:
            await bus.publish(Counted(1))
        await bus.wait_ready()
        assert await bus.request(Double(21)) == 42
        await bus.publish(Counted(1000))
        while 1000 not in seen:
            arrived.clear()
            await arrived.wait()
