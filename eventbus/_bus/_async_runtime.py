"""What exists while an async bus runs: its link, tasks, window and open requests."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from eventbus._bus._async_asking import AsyncAsker
from eventbus._bus._async_feeds import Feed, async_batched, async_ordered
from eventbus._bus._async_handling import AsyncHandling
from eventbus._bus._async_receipts import Awaited
from eventbus._bus._async_windows import AsyncWindow
from eventbus._bus._batched import Batched
from eventbus._bus._core import Served, in_handler
from eventbus._bus._dispatch import Dispatch
from eventbus._bus._health import StopReport
from eventbus._bus._lag import LagWatch
from eventbus._bus._ordered import Ordered
from eventbus._bus._workers import Watch, Workers
from eventbus._message import Incoming
from eventbus._settlement import Settlement
from eventbus.transport import AsyncLink, LinkStatus

if TYPE_CHECKING:
    from eventbus._bus._async import AsyncEventBus
    from eventbus._spool._async_link import SpoolAsyncLink

log = logging.getLogger("eventbus")

AT_ONCE = 100
"""Publishes that one task makes in one turn of the loop, where none of them has to wait."""

CLOSE_SECONDS = 1.0
FINISH_MARGIN = 2.0
CANCEL_SECONDS = 0.5


class AsyncRuntime:
    """The running part of an :class:`AsyncEventBus`, on one event loop."""

    def __init__(self, bus: AsyncEventBus, on_status: Callable[[LinkStatus], None]) -> None:
        self._bus = bus
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.spool = _spool_link(bus, on_status)
        self.link: AsyncLink = self.spool or bus.transport.async_link(bus._settings, on_status)
        self.main = self.link if self.spool is None else self.spool.main
        self.window = AsyncWindow(bus._window_size)
        self.asker = AsyncAsker(bus, self)
        self.awaited = Awaited(self.loop)
        self.draining = False
        self.serving = False
        self._workers = Workers(f"eventbus-{bus._settings.service}")
        self._watch = Watch(bus._middleware.overdue)
        self._lag = LagWatch(self.loop)
        self._handling = self._handle_by(self.link.settle)
        self._tasks: set[asyncio.Task[None]] = set()
        self._feeds: dict[str, Feed | Ordered | Batched] = {}
        self._at_once = 0
        # Handlers run in this context: they may publish while the bus drains.
        self._context = copy_context()
        self._context.run(in_handler.set, True)

    @property
    def handlers(self) -> int:
        """Deliveries at work."""
        return len(self._tasks)

    def give_way(self) -> bool:
        """Whether others on the loop are to have their turn, after a publish that had its outcome without waiting."""
        self._at_once += 1
        return self._at_once % AT_ONCE == 0

    # -- handling ---------------------------------------------------------------------------------------

    def serve(self, subscriptions: Iterable[Served]) -> None:
        """Consume for these subscriptions."""
        self.serving = True
        for served in subscriptions:
            name = served.subscription.name
            if name not in self._feeds:
                feed = self._feeds[name] = self._feed(served)
                feed.consume()
        if self._feeds:
            self._lag.start()

    def _feed(self, served: Served) -> Feed | Ordered | Batched:
        if served.subscription.ordered:
            return async_ordered(served, self.link, self._handle_by, self._spawn)
        if served.subscription.batch is not None:
            return async_batched(served, self.link, self._handling, self._spawn)
        return Feed(served, self.link, self._handling, self._spawn)

    def _handle_by(self, settle: Callable[[Incoming, Settlement], None]) -> AsyncHandling:
        return AsyncHandling(Dispatch(self._bus, settle=settle, publish=self.link.publish), self._watch, self._workers)

    @property
    def overdue(self) -> int:
        """Handlers in threads that run past their timeout."""
        return self._watch.overdue

    def idle(self) -> bool:
        """Whether no delivery is at work or waiting for its turn."""
        return not self._tasks and all(feed.idle for feed in self._feeds.values())

    @property
    def parked(self) -> int:
        """Deliveries that wait for their time: for a retry in place, or for the rest of their batch."""
        return sum(feed.parked for feed in self._feeds.values())

    def _spawn(self, served: Served, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work, name=served.subscription.name, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- the end ----------------------------------------------------------------------------------------

    async def stop(self, grace: float) -> StopReport:
        """Drain and close within ``grace`` + 1 seconds."""
        until = time.monotonic() + grace
        self.draining = self._handling.draining = True
        if self._feeds:
            await self.link.stop_consuming(min(grace, 5.0))
        for feed in self._feeds.values():
            feed.halt()
        margin = min(FINISH_MARGIN, grace / 4)
        mine = asyncio.current_task()  # stop() called by a handler must not wait for itself
        running = {task for task in self._tasks if task is not mine}
        if running:
            await asyncio.wait(running, timeout=max(0.0, until - margin - time.monotonic()))
            running = {task for task in running if not task.done()}
        if running:
            log.error(
                "%d handlers did not end within the grace period; their messages go back to the broker",
                len(running),
            )
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=CANCEL_SECONDS)
        await self.window.wait_empty(until)
        await self.link.flush(max(0.0, until - time.monotonic()))
        unknown = self.window.taken
        await self.link.close(CLOSE_SECONDS)
        self.awaited.stop()
        self._lag.stop()
        self._watch.close()
        self._workers.close(0.0)
        return StopReport(abandoned=len(running), unknown=unknown)


def _spool_link(bus: AsyncEventBus, on_status: Callable[[LinkStatus], None]) -> SpoolAsyncLink | None:
    """The link of a bus with a spool."""
    if bus._spool is None:
        return None
    from eventbus._spool._async_link import SpoolAsyncLink  # most buses have none

    return SpoolAsyncLink(bus.transport, bus._settings, bus._spool, on_status, bus._note_spool, bus._note_unroutable)
