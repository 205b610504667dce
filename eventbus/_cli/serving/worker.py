"""One bus in this process, served until a signal comes, with its health told to whoever wants to know."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import msgspec

from eventbus._cli import exits
from eventbus._cli.apps import load_bus
from eventbus._errors import EventBusError
from eventbus._run import run

if TYPE_CHECKING:
    from eventbus._bus._async import AsyncEventBus
    from eventbus._bus._health import Health, StopReport
    from eventbus._bus._sync import EventBus

TellHealth = Callable[[dict[str, Any]], object]

LOOK_SECONDS = 0.25


def serve(app: str, grace: float | None, tell: TellHealth) -> int:
    """Serve a bus until SIGTERM; gives the exit code.

    :raises EventBusError: something that trying again does not mend.
    """
    from eventbus._bus._sync import EventBus

    bus: Any = load_bus(app)
    if grace is not None:
        bus.grace = grace
    report = _serve_sync(bus, tell) if isinstance(bus, EventBus) else run(_serve_async(bus, tell))
    return exits.DONE if report.clean else exits.FAILED


class _Teller:
    """Tells what has changed."""

    def __init__(self, health: Callable[[], Health], tell: TellHealth) -> None:
        self._health, self._tell = health, tell
        self._last: Health | None = None

    def look(self) -> None:
        now = self._health()
        if now != self._last:
            self._last = now
            self._tell(msgspec.to_builtins(now))


def _serve_sync(bus: EventBus, tell: TellHealth) -> StopReport:
    ended = threading.Event()
    teller = _Teller(bus.health, tell)

    def watch() -> None:
        while not ended.wait(LOOK_SECONDS):
            teller.look()

    thread = threading.Thread(target=watch, name="eventbus-health", daemon=True)
    thread.start()
    try:
        return bus.run()
    finally:
        ended.set()
        thread.join()


async def _serve_async(bus: AsyncEventBus, tell: TellHealth) -> StopReport:
    teller = _Teller(bus.health, tell)

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            teller.look()

    task = asyncio.create_task(watch())
    try:
        return await bus.run()
    finally:
        task.cancel()


def worker_main(app: str, grace: float | None, level: int, pipe: Connection) -> None:
    """The process of one worker. Ends when the supervisor does, however that may die."""
    import logging

    os.setpgrp()  # Ctrl-C is for the supervisor, which asks its workers in order
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=level, format=f"%(asctime)s %(levelname)-7s [{os.getpid()}] %(name)s: %(message)s")
    if level > logging.DEBUG:
        for name in ("pika", "aio_pika", "aiormq"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    try:
        code = serve(app, grace, lambda health: pipe.send(("health", health)))
    except EventBusError as error:
        code = exits.code_for(error)
        pipe.send(("failed", (code, f"{app}: {error}")))
    except BrokenPipeError:
        code = exits.FAILED
    sys.exit(code)


def _end_with(pipe: Connection) -> None:
    try:
        while True:
            pipe.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
