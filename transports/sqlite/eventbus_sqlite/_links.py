"""The two links: listeners called by the engine's thread, or on one event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from pathlib import Path

from eventbus._rules.readiness import wait_in_thread, wait_on_loop
from eventbus.transport import LinkSettings, LinkStatus, Message, StatusListener

from ._link import BaseLink, Done
from ._options import Options
from ._work import Effect, Publish, Task

log = logging.getLogger("eventbus.sqlite")


def _do(effects: list[Effect]) -> None:
    for effect in effects:
        try:
            effect()
        except Exception:
            log.exception("a listener raised")


class SQLiteSyncLink(BaseLink):
    """A link for threads."""

    def __init__(self, path: Path, options: Options, settings: LinkSettings, on_status: StatusListener) -> None:
        super().__init__(path, options, settings, on_status)
        self._news = threading.Condition()

    def post(self, effects: list[Effect]) -> None:
        """Here and now: this is the engine's thread."""
        _do(effects)

    def publish_now(self, message: Message, *, deadline: float, done: Done) -> None:
        """As :meth:`publish`, by a thread that is about to wait for the outcome: it may write the message itself."""
        work = self._accepted(message, deadline, done)
        if work is not None:
            self._engine.put_and_commit(work)

    def _put(self, work: Publish | Task) -> None:
        self._engine.put(work)

    def wait_ready(self, timeout: float) -> None:
        """Until every consumer runs; raises the terminal error, or the last one at the timeout."""
        wait_in_thread(self._news, self._ready, self.status, timeout)

    def stop_consuming(self, timeout: float) -> None:
        """Cancel all consumers but ordered ones and that of replies; no delivery comes to those when it returns."""
        ended = threading.Event()
        if self._cancel_all(ended.set):
            ended.wait(timeout)

    def flush(self, timeout: float) -> bool:
        """Until the settlements given so far are carried out; False at the timeout."""
        ended = threading.Event()
        return not self._barrier(ended.set) or ended.wait(timeout)

    def close(self, timeout: float) -> None:
        """Give back what is unsettled, and end."""
        if self._begin_close(timeout):
            self._engine.join(timeout + 0.2)
            self._closed()

    def _tell(self, status: LinkStatus) -> None:
        super()._tell(status)
        with self._news:
            self._news.notify_all()


class SQLiteAsyncLink(BaseLink):
    """A link for one event loop. Publishes of one turn of the loop go into one transaction."""

    def __init__(self, path: Path, options: Options, settings: LinkSettings, on_status: StatusListener) -> None:
        super().__init__(path, options, settings, on_status)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._changed = asyncio.Event()
        self._inbox: deque[list[Effect]] = deque()
        self._waking = False
        self._ended = asyncio.Event()

    def post(self, effects: list[Effect]) -> None:
        """On the loop, in a turn of their own."""
        self._inbox.append(effects)
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._empty_inbox)
            return
        try:
            self._loop.call_soon_threadsafe(self._empty_inbox)
        except RuntimeError:  # the loop is closed: see `abandoned`
            self._inbox.clear()

    def abandoned(self) -> bool:
        """Whether the loop was closed without closing the link: nobody takes deliveries any more."""
        closed = self._loop.is_closed()
        if closed:
            log.warning("the event loop was closed, and the bus on it was not stopped: what it held goes back")
        return closed

    def ended(self) -> None:
        """The engine's thread ends now."""
        self.post([self._ended.set])

    def _empty_inbox(self) -> None:
        while self._inbox:
            _do(self._inbox.popleft())

    def _put(self, work: Publish | Task) -> None:
        self._engine.put(work, wake=False)
        if not self._waking:
            self._waking = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self._waking = False
        self._engine.wake()

    async def wait_ready(self, timeout: float) -> None:
        """Until every consumer runs; raises the terminal error, or the last one at the timeout."""
        await wait_on_loop(self._changed, self._ready, self.status, timeout)

    async def stop_consuming(self, timeout: float) -> None:
        """Cancel all consumers but ordered ones and that of replies; no delivery comes to those when it returns."""
        ended = asyncio.Event()
        if self._cancel_all(ended.set):
            await _wait(ended, timeout)

    async def flush(self, timeout: float) -> bool:
        """Until the settlements given so far are carried out; False at the timeout."""
        ended = asyncio.Event()
        return not self._barrier(ended.set) or await _wait(ended, timeout)

    async def close(self, timeout: float) -> None:
        """Give back what is unsettled, and end."""
        if self._begin_close(timeout):
            # Not in a thread of the loop's executor: handlers may have them all.
            ended = await _wait(self._ended, timeout + 0.2)
            self._engine.join(1.0 if ended else 0.0)
            self._empty_inbox()
            self._closed()

    def _tell(self, status: LinkStatus) -> None:
        super()._tell(status)
        self._changed.set()


async def _wait(ended: asyncio.Event, timeout: float) -> bool:
    try:
        async with asyncio.timeout(timeout):
            await ended.wait()
    except TimeoutError:
        return False
    return True
