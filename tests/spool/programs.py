"""Buses with a spool as programs, for tests that kill them.

``python -m tests.spool.programs HOW BROKER SPOOL FIRST``: ``sync`` and ``async`` publish numbers from FIRST on, one
after the other, and print each that is confirmed; ``drain`` publishes nothing, and prints how many it has sent from the
spool; ``slow`` does so with few on their way at once.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from dataclasses import dataclass

from eventbus import AsyncEventBus, EventBus, event
from eventbus._spool import _store


@event("spool.counted", topic="spool.counted.{source}")
@dataclass(frozen=True)
class Counted:
    source: str
    number: int


def publish(broker: str, spool: str, first: int) -> None:
    bus = EventBus(broker, service="counter", spool=spool)
    for number in itertools.count(first):
        bus.publish(Counted("killed", number))
        print(number, flush=True)


async def publish_async(broker: str, spool: str, first: int) -> None:
    bus = AsyncEventBus(broker, service="counter", spool=spool)
    for number in itertools.count(first):
        await bus.publish(Counted("killed", number))
        print(number, flush=True)


def drain(broker: str, spool: str, first: int) -> None:
    bus = EventBus(broker, service="counter", spool=spool)
    bus.start(wait=False)
    told, pause = -1, threading.Event()
    while True:
        state = bus.health().spool
        if state is not None and state.sent != told and state.messages + state.sent > 0:
            told = state.sent
            print(told, flush=True)
        pause.wait(0.005)


if __name__ == "__main__":
    how, *where, begin = sys.argv[1:]
    if how == "slow":
        _store.PREFETCH = 3
    if how == "async":
        asyncio.run(publish_async(where[0], where[1], int(begin)))
    else:
        (publish if how == "sync" else drain)(where[0], where[1], int(begin))
