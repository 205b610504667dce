"""Relays as programs, for tests that need several processes, or that kill one.

``python -m tests.outbox.programs HOW BROKER DATABASE``: HOW is ``relay``, ``async``, ``slow``, or ``die`` for one that
is killed between the broker's confirm and its own delete.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import Any, NoReturn

from eventbus_outbox import AsyncRelay, Relay
from eventbus_outbox._table import OutboxTable

from eventbus import AsyncEventBus, EventBus, Message, Middleware

TIMEOUT = 2.0
LEASE = 7.5
SETTINGS: dict[str, Any] = {"lease": LEASE, "poll": 0.1, "batch": 40}


def die(*args: object, **options: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def watch(relay: Any) -> None:
    """Tell when it relays."""
    while relay.status().state != "relaying":
        threading.Event().wait(0.02)
    print("relaying", flush=True)


def run_sync(broker: str, database: str) -> None:
    relay = Relay(EventBus(broker, service="relay", timeout=40), database, **SETTINGS | {"lease": 60.0})
    run(relay)


def run(relay: Relay) -> NoReturn:
    threading.Thread(target=watch, args=(relay,), daemon=True).start()
    clean = relay.run()
    print(relay.status().relayed, flush=True)
    sys.exit(not clean)


class Slow(Middleware):
    """So that there is something to be killed in the middle of."""

    def outgoing(self, message: Message) -> Message:
        threading.Event().wait(0.005)
        return message


def run_slow(broker: str, database: str) -> None:
    relay = Relay(EventBus(broker, service="relay", timeout=TIMEOUT, middleware=[Slow()]), database, **SETTINGS)
    run(relay)


async def run_async(broker: str, database: str) -> None:
    relay = AsyncRelay(AsyncEventBus(broker, service="relay", timeout=40), database, **SETTINGS | {"lease": 60.0})
    threading.Thread(target=watch, args=(relay,), daemon=True).start()
    clean = await relay.run()
    print(relay.status().relayed, flush=True)
    sys.exit(not clean)


if __name__ == "__main__":
    how, *where = sys.argv[1:]
    if how == "async":
        asyncio.run(run_async(*where))
    elif how == "relay":
        run_sync(*where)
    else:
        if how == "die":
            OutboxTable.settle = die  # type: ignore[method-assign,assignment]
        run_slow(*where)
