"""One bus in this process, served until a signal comes, with its health told to whoever wants to know."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import msgspec

from eventbus._cli import exits
from eventbus._cli.apps import load_bus
from eventbus._cli.serving.early import SIGNALS, EarlySignals
from eventbus._cli.serving.plan import DEFAULT_GRACE, MARGIN_SECONDS, code_of
from eventbus._errors import EventBusError
from eventbus._run import run

if TYPE_CHECKING:
    from eventbus._bus._async import AsyncEventBus
    from eventbus._bus._core import BusCore
    from eventbus._bus._health import Health, StopReport
    from eventbus._bus._sync import EventBus

log = logging.getLogger("eventbus.run")

Tell = Callable[[str, Any], object]
"""Gets ``("health", {...})`` at every change."""

LOOK_SECONDS = 0.25


def serve(bus: BusCore, tell: Tell, early: EarlySignals) -> StopReport:
    """Serve a bus until SIGTERM.

    :raises EventBusError: something that trying again does not mend.
    """
    from eventbus._bus._sync import EventBus

    early.serving()
    looker = _Looker(bus, tell, early)
    return _serve_sync(bus, looker) if isinstance(bus, EventBus) else run(_serve_async(bus, looker))


def loaded(app: str, grace: float | None) -> BusCore:
    """The bus of this name, with this grace period if one is given."""
    bus = load_bus(app)
    if grace is not None:
        bus.grace = grace
    return bus


class _Looker:
    """Looks at the health of a bus from time to time, and tells what has changed."""

    def __init__(self, bus: Any, tell: Tell, early: EarlySignals) -> None:
        self._bus, self._tell, self._early = bus, tell, early
        self._last: Health | None = None

    def look(self) -> None:
        self._early.deliver()
        now = self._bus.health()
        if now != self._last:
            self._last = now
            self._tell("health", msgspec.to_builtins(now))


def _serve_sync(bus: EventBus, looker: _Looker) -> StopReport:
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_SECONDS):
            looker.look()

    thread = threading.Thread(target=watch, name="eventbus-health", daemon=True)
    thread.start()
    try:
        return bus.run()
    finally:
        ended.set()
        thread.join()


async def _serve_async(bus: Any, looker: _Looker) -> StopReport:
    ours: AsyncEventBus = bus

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            looker.look()

    task = asyncio.create_task(watch())
    try:
        return await ours.run()
    finally:
        task.cancel()


def worker_main(app: str, grace: float | None, level: int, debug: bool, pipe: Connection) -> None:
    """The process of one worker. Ends when the supervisor does, however that may die."""
    os.setpgid(0, 0)  # Ctrl-C is for the supervisor, which asks its workers in order
    early = EarlySignals()
    early.catch()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the supervisor started us with them blocked
    _log_to_stderr(level)
    limits = {"grace": DEFAULT_GRACE if grace is None else grace}
    threading.Thread(target=_end_with, args=(pipe, limits), name="eventbus-parent", daemon=True).start()

    def tell(kind: str, value: Any) -> None:
        try:
            pipe.send((kind, value))
        except OSError:
            pass  # the supervisor is gone, and the thread above ends us

    try:
        bus = loaded(app, grace)
        limits["grace"] = bus.grace
        tell("begun", (bus.grace, bus.transport.capabilities.processes))
        report = serve(bus, tell, early)
    except EventBusError as error:
        code = exits.code_for(error)
        if debug:
            log.exception("%s", app)
        tell("failed", (code, f"{app}: {error}"))
    else:
        code = code_of(report)
        tell("ended", (report.abandoned, report.unknown))
    early.ended(code)
    sys.exit(code)


def _log_to_stderr(level: int) -> None:
    logging.basicConfig(level=level, format=f"%(asctime)s %(levelname)-7s [{os.getpid()}] %(name)s: %(message)s")
    if level > logging.DEBUG:
        for name in ("pika", "aio_pika", "aiormq"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _end_with(pipe: Connection, limits: dict[str, float]) -> None:
    """End when the other end of the pipe is closed: the supervisor has died, and cannot ask us any more."""
    try:
        while True:
            pipe.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(limits["grace"] + MARGIN_SECONDS)
    os._exit(exits.FAILED)
