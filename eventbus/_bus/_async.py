"""The bus for asyncio."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from eventbus._bus._async_batches import TaskBatch
from eventbus._bus._async_receipts import AsyncReceipt
from eventbus._bus._async_runtime import AT_ONCE, AsyncRuntime
from eventbus._bus._async_signals import catch_signals
from eventbus._bus._batches import Member
from eventbus._bus._core import BusCore, Served, in_handler
from eventbus._bus._health import Health, StopReport, health_of
from eventbus._bus._sending import Sending
from eventbus._bus._words import closed_error, full_error
from eventbus._errors import (
    ConfigurationError,
    EventBusError,
    NotSent,
    RequestTimeout,
)
from eventbus._events import Request
from eventbus._outgoing import PublishKeywords, PublishOptions, options_from
from eventbus._replies import read_reply
from eventbus._supervisor import Phase
from eventbus._topology import Exchange, Topology
from eventbus.transport import LinkStatus

R = TypeVar("R")


_buses: weakref.WeakSet[AsyncEventBus] = weakref.WeakSet()


class AsyncEventBus(BusCore):
    """The bus for asyncio: as :class:`eventbus.EventBus`, with ``await``.

    It lives on the event loop of its first use, and its methods are called there. Plain functions as handlers run
    in threads; coroutine functions are tasks. Parameters are those of :class:`eventbus.EventBus`.
    """

    _allow_async = True

    def _setup(self) -> None:
        self._after_fork()
        _buses.add(self)

    def _after_fork(self) -> None:
        """Forget everything that belongs to loops and sockets: a forked child shares none of it."""
        # Kept from being collected: a destructor might speak on the parent's sockets.
        self._of_parent = getattr(self, "_runtime", None)
        self._runtime: AsyncRuntime | None = None
        self._stopping: AsyncRuntime | None = None
        self._stopped = False
        self._end_run: Callable[[], None] = lambda: None
        self._terminal: Exception | None = None

    # -- life -------------------------------------------------------------------------------------------

    async def start(self, *, wait: bool = True, timeout: float = 30.0) -> None:
        """Connect and serve the subscriptions. Idempotent.

        With ``wait``, returns when connected and every subscription runs.

        :raises ConnectionFailed: not ready after ``timeout`` seconds; the bus goes on trying until it is stopped.
        :raises EventBusError: something that trying again does not mend, such as LoginRefused or TopologyMismatch.
        """
        self._stopped = False
        runtime = self._running()
        runtime.serve(self._served.values())
        if wait:
            await runtime.link.wait_ready(timeout)

    async def wait_ready(self, timeout: float = 30.0) -> None:
        """Until connected and every subscription runs; raises as :meth:`start` does."""
        await self._running().link.wait_ready(timeout)

    async def stop(self, grace: float | None = None) -> StopReport:
        """Drain, then close, within ``grace`` seconds (the bus's ``grace`` by default). Idempotent.

        New publishes outside handlers end with BusClosed; consumers stop and unstarted deliveries go back;
        running handlers may finish, and are cancelled at the end; confirms are awaited; then the connection
        closes, whatever the broker does.
        """
        runtime, self._runtime = self._runtime, None
        self._stopped = True
        if runtime is None:
            return StopReport()
        if not self._is_ours(runtime):
            return StopReport()  # its loop is gone, or it is the parent process's: nothing of it can be used
        self._stopping = runtime
        try:
            return await runtime.stop(self.grace if grace is None else grace)
        finally:
            if self._stopping is runtime:
                self._stopping = None
            self._end_run()

    async def run(self) -> StopReport:
        """Serve until SIGTERM, SIGINT or :meth:`stop`, then drain; a second signal stops at once.

        Waits for the broker as long as it takes.

        :raises EventBusError: something that trying again does not mend.
        """
        loop = asyncio.get_running_loop()
        wake, hurry = asyncio.Event(), asyncio.Event()
        self._end_run, self._terminal = wake.set, None
        signalled = False

        def on_signal() -> None:
            nonlocal signalled
            if signalled:
                hurry.set()
            signalled = True
            wake.set()

        caught = catch_signals(loop, on_signal)
        try:
            await self.start(wait=False)
            await wake.wait()
            runtime = self._runtime
            report = await self._stop_or_hurry(runtime, hurry)
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
        if not signalled and self._terminal is not None:
            raise self._terminal
        return report

    async def _stop_or_hurry(self, runtime: AsyncRuntime | None, hurry: asyncio.Event) -> StopReport:
        stopping = asyncio.create_task(self.stop())
        hurrying = asyncio.create_task(hurry.wait())
        await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if not stopping.done() and runtime is not None:
            stopping.cancel()
            return await runtime.stop(0.0)
        return await stopping

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()  # a with statement that was not entered is not left either
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _is_ours(self, runtime: AsyncRuntime) -> bool:
        # A running loop that was first met on this thread is the one that runs here. asyncio's own answer asks the
        # system for the process id (until Python 3.12), which costs more than an event's encoding.
        return runtime.loop.is_running() and runtime.thread == threading.get_ident()

    def _running(self) -> AsyncRuntime:
        runtime = self._runtime
        if runtime is None and self._stopping is not None and in_handler.get():
            runtime = self._stopping  # what handlers publish still goes out while the bus drains
        if runtime is not None:
            if self._is_ours(runtime):
                return runtime
            if not runtime.loop.is_closed():
                raise ConfigurationError("this bus lives on another event loop; make one bus for each loop")
        if self._stopped:
            raise closed_error()
        self._runtime = runtime = AsyncRuntime(self, self._note_status)
        runtime.link.declare(Topology(exchanges=tuple(self._exchanges.values())))
        runtime.link.open()
        return runtime

    def _subscribed(self, served: Served) -> None:
        if self._runtime is not None and self._runtime.serving:
            self._runtime.serve([served])

    def _declared(self, exchange: Exchange) -> None:
        if self._runtime is not None:
            self._runtime.link.declare(Topology(exchanges=(exchange,)))

    def _note_status(self, status: LinkStatus) -> None:
        super()._note_status(status)
        if status.phase is Phase.FAILED:
            self._terminal = status.error
            self._end_run()

    def _link(self) -> object | None:
        return self._runtime.main if self._runtime is not None else None

    def health(self) -> Health:
        """State of the bus now; cheap."""
        runtime = self._runtime or self._stopping
        if runtime is None:
            return Health(status="stopped", unroutable=self._unroutable)
        return health_of(
            runtime.link.status(),
            draining=runtime.draining,
            handlers=runtime.handlers,
            overdue=runtime.overdue,
            publishes=runtime.window.taken,
            pending=runtime.asker.pending,
            unroutable=self._unroutable,
            spool=None if runtime.spool is None else runtime.spool.health(),
        )

    # -- publishing -------------------------------------------------------------------------------------

    async def publish(self, event: object, /, **options: Unpack[PublishKeywords]) -> None:
        """Publish an event; returns once the broker has confirmed it.

        A plain dict or list needs ``topic=``. See :class:`PublishKeywords` for the keywords.

        :raises PublishError: exactly one of NotSent, Unroutable, Rejected, PublishUnknown, by the deadline.
        """
        try:
            runtime = self._running()
            receipt = AsyncReceipt(self, runtime.window, event, options_from(options), runtime.awaited)
            if not self._send_now(runtime, receipt):
                await self._send(runtime, receipt)
        except NotSent:
            await asyncio.sleep(0)  # a caller that tries again and again must not keep the loop from everybody else
            raise
        if receipt.done() and runtime.give_way():
            await asyncio.sleep(0)
        await receipt

    async def submit(self, event: object, /, **options: Unpack[PublishKeywords]) -> AsyncReceipt:
        """Publish without waiting for the confirm; waits only while the window is full.

        :raises NotSent: the event cannot be encoded, the window stayed full, or the bus is stopping.
        """
        try:
            runtime = self._running()
            receipt = AsyncReceipt(self, runtime.window, event, options_from(options), runtime.awaited)
            if not self._send_now(runtime, receipt):
                await self._send(runtime, receipt)
        except NotSent:
            await asyncio.sleep(0)
            raise
        if receipt.done() and runtime.give_way():
            await asyncio.sleep(0)
        return receipt

    def _send_now(self, runtime: AsyncRuntime, sending: Sending) -> bool:
        """Send without waiting, if there is a place in the window."""
        if runtime.draining and not in_handler.get():
            raise sending.not_sent(closed_error())
        if not runtime.window.enter_now():
            return False
        if runtime.spool is None:
            runtime.link.publish(sending.message, deadline=sending.deadline, done=sending.outcome)
        else:
            runtime.spool.send(sending)
        return True

    async def _send(self, runtime: AsyncRuntime, sending: Sending) -> None:
        """Send when there is a place in the window."""
        if not await runtime.window.enter(sending.deadline):
            raise sending.not_sent(full_error(runtime.window.size, runtime.link.status()))
        if runtime.spool is None:
            runtime.link.publish(sending.message, deadline=sending.deadline, done=sending.outcome)
        else:
            runtime.spool.send(sending)

    async def publish_many(
        self, events: Iterable[object] | AsyncIterable[object], /, **options: Unpack[PublishKeywords]
    ) -> int:
        """Publish all, pipelined within the window; returns how many were confirmed.

        The iterable (plain or async) is read as the window allows, so it may be endless memory-wise.

        :raises PublishManyError: some failed; its ``failures`` say which and how. The others are confirmed.
        """
        batch, chosen = TaskBatch(), options_from(options)
        if isinstance(events, AsyncIterable):
            async for event in events:
                waits = self._add(batch, event, chosen)
                if waits is not None:
                    await waits
        else:
            for event in events:
                waits = self._add(batch, event, chosen)
                if waits is not None:
                    await waits
                elif batch.count % AT_ONCE == 0:
                    await asyncio.sleep(0)  # others on this loop have their turn, also when the window is wide
        return await batch.result()

    def _add(self, batch: TaskBatch, event: object, options: PublishOptions) -> Awaitable[None] | None:
        """Send one of a batch; gives what to wait for when there is no place in the window."""
        try:
            runtime = self._running()
            member = batch.member(self, runtime.window, event, options)
            waits = None if self._send_now(runtime, member) else self._add_later(batch, runtime, member)
        except NotSent as error:
            batch.failed(event, error)
            waits = None
        batch.count += 1
        return waits

    async def _add_later(self, batch: TaskBatch, runtime: AsyncRuntime, member: Member) -> None:
        try:
            await self._send(runtime, member)
        except NotSent as error:
            batch.ended(member, error)

    # -- requests ---------------------------------------------------------------------------------------

    @overload
    async def request(self, request: Request[R], /, **options: Unpack[PublishKeywords]) -> R: ...
    @overload
    async def request(self, request: object, /, *, reply: type[R], **options: Unpack[PublishKeywords]) -> R: ...
    @overload
    async def request(self, request: object, /, **options: Unpack[PublishKeywords]) -> Any: ...
    async def request(self, request: Any, /, *, reply: Any = None, **options: Unpack[PublishKeywords]) -> Any:
        """Ask, and return the answer. Its type is that of ``Request[...]``, of ``@event(reply=...)`` or ``reply``.

        :raises NoResponder: nobody answers this request (at once). :raises RequestTimeout: no answer in time.
        :raises RemoteError: the responder failed. :raises RequestLost: the connection went meanwhile.
        :raises PublishError: the request could not be sent. :raises DecodingError: the answer does not fit.
        """
        reply = self._reply_type(request, reply)
        message = await self._running().asker.one(request, options_from(options))
        if message is not None:
            return read_reply(message, self._reply_decoder(message.content_type, reply))
        raise RequestTimeout(f"no reply to {type(request).__name__} in time; the responder may have run")

    async def request_many(
        self,
        request: object,
        /,
        *,
        reply: Any = None,
        count: int | None = None,
        **options: Unpack[PublishKeywords],
    ) -> list[Any]:
        """Ask all responders (every group, and every instance of a broadcast one) and gather what comes.

        Returns the answers until ``timeout``, or until there are ``count``; a responder that failed stands in the
        list as a RemoteError. Raises as :meth:`request` does, except RequestTimeout.
        """
        reply = self._reply_type(request, reply)
        answers: list[Any] = []
        async with aclosing(self._running().asker.many(request, options_from(options))) as replies:
            async for message in replies:
                try:
                    answers.append(read_reply(message, self._reply_decoder(message.content_type, reply)))
                except EventBusError as error:
                    answers.append(error)
                if len(answers) == count:
                    break
        return answers


def _forget_in_child() -> None:
    for bus in list(_buses):
        bus._after_fork()


os.register_at_fork(after_in_child=_forget_in_child)
