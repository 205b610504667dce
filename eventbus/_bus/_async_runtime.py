"""What exists while an async bus runs: its link, tasks, window and open requests."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from eventbus._bus._async_asking import AsyncAsker
from eventbus._bus._async_receipts import Awaited
from eventbus._bus._async_windows import AsyncWindow
from eventbus._bus._core import Served, in_handler
from eventbus._bus._dispatch import Dispatch
from eventbus._bus._health import StopReport
from eventbus._bus._lag import LagWatch
from eventbus._bus._workers import Watch, Workers
from eventbus._delivery import Context, Delivery
from eventbus._message import Incoming
from eventbus.transport import LinkStatus

if TYPE_CHECKING:
    from eventbus._bus._async import AsyncEventBus

log = logging.getLogger("eventbus")

AT_ONCE = 100
"""Publishes that one task makes in one turn of the loop, where none of them has to wait."""

CLOSE_SECONDS = 1.0
FINISH_MARGIN = 2.0
CANCEL_SECONDS = 0.5


class Feed:
    """Listener of one subscription: at most ``concurrency`` tasks; further arrivals wait in order."""

    def __init__(self, served: Served, spawn: Callable[[Feed, Incoming], None]) -> None:
        self.served = served
        self.free = served.subscription.concurrency
        self.waiting: deque[Incoming] = deque()
        self._spawn = spawn

    def delivered(self, incoming: Incoming, /) -> None:
        if self.free:
            self.free -= 1
            self._spawn(self, incoming)
        else:
            self.waiting.append(incoming)

    def started(self, queue: str, /) -> None:
        """Nothing to do."""

    def stopped(self, error: Exception | None, /) -> None:
        # The broker hands these out again; to handle them now would only make duplicates.
        self.waiting.clear()


class AsyncRuntime:
    """The running part of an :class:`AsyncEventBus`, on one event loop."""

    def __init__(self, bus: AsyncEventBus, on_status: Callable[[LinkStatus], None]) -> None:
        self._bus = bus
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.link = bus.transport.async_link(bus._settings, on_status)
        self.window = AsyncWindow(bus._window_size)
        self.asker = AsyncAsker(bus, self)
        self.awaited = Awaited(self.loop)
        self.draining = False
        self.serving = False
        self._workers = Workers(f"eventbus-{bus._settings.service}")
        self._watch = Watch()
        self._lag = LagWatch(self.loop)
        self._dispatch = Dispatch(bus, settle=self.link.settle, publish=self.link.publish)
        self._tasks: set[asyncio.Task[None]] = set()
        self._feeds: dict[str, Feed] = {}
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
            subscription = served.subscription
            if subscription.name not in self._feeds:
                feed = self._feeds[subscription.name] = Feed(served, self._spawn)
                self.link.consume(subscription.consumer(), feed)
        if self._feeds:
            self._lag.start()

    def idle(self) -> bool:
        """Whether no delivery is at work or waiting for its turn."""
        return not self._tasks and not any(feed.waiting for feed in self._feeds.values())

    def _spawn(self, feed: Feed, incoming: Incoming) -> None:
        task = self.loop.create_task(
            self._work(feed, incoming), name=feed.served.subscription.name, context=self._context.copy()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, feed: Feed, incoming: Incoming) -> None:
        # The task keeps its slot while work is waiting, which spares a task for each delivery.
        try:
            while True:
                await self._handle(feed.served, incoming)
                if not feed.waiting:
                    return
                incoming = feed.waiting.popleft()
        finally:
            feed.free += 1
            # Only an error that no handler should raise gets here with work waiting; it must not be left behind.
            if feed.waiting and not self.draining:
                feed.delivered(feed.waiting.popleft())

    async def _handle(self, served: Served, incoming: Incoming) -> None:
        if self.draining:
            self._dispatch.give_back(incoming)
            return
        try:
            delivery = self._dispatch.open(served, incoming)
            error: BaseException | None = None
            result = None
            try:
                result = await self._call(served, delivery)
            except asyncio.CancelledError as cancelled:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # ours, at the end of the grace period: the broker hands the message out again
                error = cancelled  # the handler's own: something that it awaited was cancelled
            except BaseException as raised:
                error = raised
            self._dispatch.finish(delivery, error, result)
        except Exception:
            log.exception("%s: a delivery could not be settled", served.subscription.name)

    async def _call(self, served: Served, delivery: Delivery) -> Any:
        event, context = self._dispatch.read(served, delivery)
        if not self._dispatch.around:
            return await self._invoke(served, event, context)
        async with AsyncExitStack() as stack:
            for middleware in self._dispatch.around:
                manager: Any = middleware.handling(delivery)
                if isinstance(manager, AbstractAsyncContextManager):
                    await stack.enter_async_context(manager)
                else:
                    stack.enter_context(manager)
            return await self._invoke(served, event, context)

    async def _invoke(self, served: Served, event: Any, context: Context) -> Any:
        handler, timeout = served.subscription.handler, served.subscription.timeout
        if not handler.is_async:
            return await self._invoke_in_thread(served, event, context)
        if timeout is None:
            return await handler.call_async(event, context)
        async with asyncio.timeout(timeout):
            return await handler.call_async(event, context)

    async def _invoke_in_thread(self, served: Served, event: Any, context: Context) -> Any:
        subscription, loop = served.subscription, self.loop
        outcome: asyncio.Future[Any] = loop.create_future()
        number = None if subscription.timeout is None else self._watch.begin(subscription.name, subscription.timeout)

        def finish(error: BaseException | None, result: Any) -> None:
            if outcome.done():
                return
            if error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

        def run() -> None:
            error: BaseException | None = None
            result = None
            try:
                result = copied.run(subscription.handler.call, event, context)
            except BaseException as raised:
                # A future takes no StopIteration, and GeneratorExit would end the waiting task instead of
                # reaching it; a handler that raises one has failed all the same.
                odd = isinstance(raised, (StopIteration, GeneratorExit))
                error = RuntimeError(f"the handler raised {type(raised).__name__}") if odd else raised
            if number is not None:
                self._watch.end(number)
            try:
                loop.call_soon_threadsafe(finish, error, result)
            except RuntimeError:  # the loop was closed meanwhile: the message goes back with its connection
                log.warning("%s: the handler ended after its event loop", subscription.name)

        copied = copy_context()
        self._workers.submit(run)
        return await outcome

    # -- the end ----------------------------------------------------------------------------------------

    async def stop(self, grace: float) -> StopReport:
        """Drain and close within ``grace`` + 1 seconds."""
        until = time.monotonic() + grace
        self.draining = True
        if self._feeds:
            await self.link.stop_consuming(min(grace, 5.0))
        for feed in self._feeds.values():
            while feed.waiting:
                self._dispatch.give_back(feed.waiting.popleft())
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
