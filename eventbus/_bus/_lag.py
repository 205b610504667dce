"""Names the handler that blocks the event loop: a blocked loop misses heartbeats, and the broker hangs up."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

log = logging.getLogger("eventbus.handler")

BEAT = 0.5
LIMIT = 2.5  # a quarter of the default heartbeat of 10 s


class LagWatch:
    """A beat on the loop, watched from a thread: only a thread can still speak while the loop stands still."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float = LIMIT) -> None:
        self._loop = loop
        self._limit = limit
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch. Idempotent."""
        if self._thread is None:
            self._beat()
            self._thread = threading.Thread(target=self._run, name="eventbus-lag", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self) -> None:
        self._last = time.monotonic()
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _run(self) -> None:
        reported = 0.0
        while not self._ended.wait(BEAT):
            lag = time.monotonic() - self._last - BEAT
            if self._loop.is_closed():
                return
            if lag < self._limit or reported == self._last:
                continue
            reported = self._last  # once for each time that the loop stands still
            task = asyncio.current_task(self._loop)
            who = f"task {task.get_name()!r}" if task is not None else "a callback"
            log.warning(
                "%s has blocked the event loop for %.1f s; heartbeats are missed. Make it a plain function, which "
                "runs in a thread, or await instead of blocking",
                who,
                lag,
            )
