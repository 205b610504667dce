"""The client libraries believe that a connection is alive while all its traffic passes them by."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass

from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import AsyncEventBus, EventBus, event

HEARTBEAT = 1
# Both libraries give a connection up after two or three heartbeats without a byte.
BUSY_SECONDS = 6 * HEARTBEAT


@event("heartbeats.beat")
@dataclass(frozen=True)
class Beat:
    number: int


def test_steady_traffic_for_many_heartbeats_costs_no_connection(broker: LocalBroker) -> None:
    url = f"{broker.url}?heartbeat={HEARTBEAT}"
    found: dict[str, tuple[int, int, int]] = {}

    def with_threads() -> None:
        seen: list[int] = []
        with EventBus(url, service="heartbeats") as bus:
            bus.subscribe(Beat, broadcast=True)(lambda beat: seen.append(beat.number))
            bus.wait_ready()
            until, sent = time.monotonic() + BUSY_SECONDS, 0
            while time.monotonic() < until:
                bus.publish(Beat(sent))
                sent += 1
            found["sync"] = (bus.health().reconnects, sent, len(seen))

    async def with_tasks() -> None:
        seen: list[int] = []
        async with AsyncEventBus(url, service="heartbeats") as bus:

            @bus.subscribe(Beat, broadcast=True)
            async def see(beat: Beat) -> None:
                seen.append(beat.number)

            await bus.wait_ready()
            until, sent = time.monotonic() + BUSY_SECONDS, 0
            while time.monotonic() < until:
                await bus.publish(Beat(sent))
                sent += 1
            found["async"] = (bus.health().reconnects, sent, len(seen))

    thread = threading.Thread(target=with_threads)
    thread.start()
    asyncio.run(with_tasks())
    thread.join()
    for reconnects, sent, seen in found.values():
        assert reconnects == 0
        assert seen > sent * 0.9 > 0  # traffic went both ways all the time
    assert set(found) == {"sync", "async"}
