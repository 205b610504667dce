"""A thousand requests at once, each answered with its own answer."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import AsyncEventBus, EventBus, Request, event

REQUESTS = 1000


@event("many.square")
@dataclass(frozen=True)
class Square(Request[int]):
    number: int


@pytest.mark.parametrize("reply", ["queue", "direct"])
def test_sync_with_a_thread_for_each(broker: LocalBroker, reply: str) -> None:
    with EventBus(broker.url, service="many-sync", timeout=60, reply=reply) as bus:  # type: ignore[arg-type]

        @bus.respond(Square, concurrency=8)
        def square(request: Square) -> int:
            return request.number**2

        bus.wait_ready()
        together = threading.Barrier(REQUESTS)

        def ask(number: int) -> int:
            together.wait(60)
            return bus.request(Square(number))

        with ThreadPoolExecutor(REQUESTS) as pool:
            assert list(pool.map(ask, range(REQUESTS))) == [n**2 for n in range(REQUESTS)]


@pytest.mark.parametrize("reply", ["queue", "direct"])
def test_async_all_gathered(broker: LocalBroker, reply: str) -> None:
    async def run() -> None:
        async with AsyncEventBus(broker.url, service="many-async", timeout=60, reply=reply) as bus:  # type: ignore[arg-type]

            @bus.respond(Square, concurrency=100)
            async def square(request: Square) -> int:
                await asyncio.sleep(0)
                return request.number**2

            await bus.wait_ready()
            answers = await asyncio.gather(*(bus.request(Square(n)) for n in range(REQUESTS)))
            assert answers == [n**2 for n in range(REQUESTS)]

    asyncio.run(run())
