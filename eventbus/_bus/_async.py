"""The bus for asyncio."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from eventbus._bus._async_receipts import AsyncReceipt
from eventbus._bus._async_runtime import AsyncRuntime
from eventbus._bus._core import BusCore, Health, Served, StopReport, closed_error, in_handler
from eventbus._errors import (
    ConfigurationError,
    EventBusError,
    NotSent,
    PublishError,
    PublishManyError,
    RequestTimeout,
    Unroutable,
)
from eventbus._events import Request
from eventbus._message import Message
from eventbus._outgoing import PublishKeywords, options_from
from eventbus._replies import read_reply
from eventbus._supervisor import Phase
from eventbus._topology import Exchange, Topology
from eventbus.transport import LinkStatus

R = TypeVar("R")


class AsyncEventBus(BusCore):
    """The bus for asyncio: as :class:`eventbus.EventBus`, with ``await``.

    It lives on the event loop of its first use, and its methods are called there. Plain functions as handlers run
    in threads; coroutine functions are tasks. Parameters are those of :class:`eventbus.EventBus`.
    """

    _allow_async = True

    def _setup(self) -> None:
        self._runtime: AsyncRuntime | None = None
        self._stopping: AsyncRuntime | None = None
        self._stopped = False
        self._pid = os.getpid()
        self._on_failed: Callable[[], None] = lambda: None

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

    async def run(self) -> StopReport:
        """Serve until SIGTERM or SIGINT, then drain; a second signal stops at once.

        Waits for the broker as long as it takes.

        :raises EventBusError: something that trying again does not mend.
        """
        loop = asyncio.get_running_loop()
        wake, hurry = asyncio.Event(), asyncio.Event()
        self._on_failed = wake.set
        signalled = False

        def on_signal() -> None:
            nonlocal signalled
            if signalled:
                hurry.set()
            signalled = True
            wake.set()

        caught = _catch_signals(loop, on_signal)
        try:
            await self.start(wait=False)
            await wake.wait()
            runtime = self._runtime
            report = await self._stop_or_hurry(runtime, hurry)
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
        if not signalled and self._status.error is not None:
            raise self._status.error
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
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _is_ours(self, runtime: AsyncRuntime) -> bool:
        return os.getpid() == self._pid and runtime.loop is asyncio.get_running_loop()

    def _running(self) -> AsyncRuntime:
        runtime = self._runtime
        if runtime is None and self._stopping is not None and in_handler.get():
            runtime = self._stopping  # what handlers publish still goes out while the bus drains
        if runtime is not None:
            if runtime.loop is asyncio.get_running_loop() and os.getpid() == self._pid:
                return runtime
            if os.getpid() == self._pid and not runtime.loop.is_closed():
                raise ConfigurationError("this bus lives on another event loop; make one bus for each loop")
            self._of_parent = runtime  # kept from being collected: a destructor might speak on the parent's sockets
        if self._stopped:
            raise closed_error()
        self._pid = os.getpid()
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
            self._on_failed()

    def health(self) -> Health:
        """State of the bus now; cheap."""
        runtime = self._runtime or self._stopping
        if runtime is None:
            return Health(status="stopped", unroutable=self._unroutable)
        return self._health(
            runtime.link.status(),
            running=True,
            draining=runtime.draining,
            handlers=runtime.handlers,
            publishes=runtime.window.taken,
            pending=runtime.pending,
        )

    # -- publishing -------------------------------------------------------------------------------------

    async def publish(self, event: object, /, **options: Unpack[PublishKeywords]) -> None:
        """Publish an event; returns once the broker has confirmed it.

        A plain dict or list needs ``topic=``. See :class:`PublishKeywords` for the keywords.

        :raises PublishError: exactly one of NotSent, Unroutable, Rejected, PublishUnknown, by the deadline.
        """
        await (await self.submit(event, **options))

    async def submit(self, event: object, /, **options: Unpack[PublishKeywords]) -> AsyncReceipt:
        """Publish without waiting for the confirm; waits only while the window is full.

        :raises NotSent: the event cannot be encoded, the window stayed full, or the bus is stopping.
        """
        runtime = self._running()
        chosen = options_from(options)
        deadline = time.monotonic() + (self.timeout if chosen.timeout is None else chosen.timeout)
        message = self._middleware.outgoing(self._encoder.message(event, chosen))
        future: asyncio.Future[PublishError | None] = runtime.loop.create_future()

        def done(error: PublishError | None) -> None:
            if not future.done():
                future.set_result(error)

        await self._send(runtime, message, deadline, done, mandatory=self._must_route(event, chosen))
        return AsyncReceipt(message, future)

    async def _send(
        self,
        runtime: AsyncRuntime,
        message: Message,
        deadline: float,
        done: Callable[[PublishError | None], None],
        *,
        mandatory: bool,
    ) -> None:
        began = time.monotonic()
        try:
            if runtime.draining and not in_handler.get():
                raise closed_error()
            await runtime.enter_window(deadline)
        except NotSent as error:
            self._middleware.published(message, error, time.monotonic() - began)
            raise

        def outcome(error: PublishError | None) -> None:
            runtime.window.leave()
            if error is not None and type(error) is Unroutable and not mandatory:
                self._note_unroutable(message)
                error = None
            if self._middleware.watches_publishes:
                self._middleware.published(message, error, time.monotonic() - began)
            done(error)

        runtime.link.publish(message, deadline=deadline, done=outcome)

    async def publish_many(
        self, events: Iterable[object] | AsyncIterable[object], /, **options: Unpack[PublishKeywords]
    ) -> int:
        """Publish all, pipelined within the window; returns how many were confirmed.

        The iterable (plain or async) is read as the window allows, so it may be endless memory-wise.

        :raises PublishManyError: some failed; its ``failures`` say which and how. The others are confirmed.
        """
        waiting: deque[tuple[int, object, AsyncReceipt]] = deque()
        failures: list[tuple[int, object, PublishError]] = []
        confirmed = position = 0

        async def settle() -> int:
            at, event, receipt = waiting.popleft()
            error = await receipt.error()
            if error is None:
                return 1
            failures.append((at, event, error))
            return 0

        async for event in _each(events):
            try:
                waiting.append((position, event, await self.submit(event, **options)))
            except NotSent as error:
                failures.append((position, event, error))
            position += 1
            while waiting and (len(waiting) >= self._window_size or waiting[0][2].done()):
                confirmed += await settle()
        while waiting:
            confirmed += await settle()
        if failures:
            failures.sort(key=lambda failure: failure[0])
            raise PublishManyError(confirmed, failures)
        return confirmed

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
        async with self._running().ask(self, request, options_from(options)) as replies:
            async for message in replies:
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
        async with self._running().ask(self, request, options_from(options), many=True) as replies:
            async for message in replies:
                try:
                    answers.append(read_reply(message, self._reply_decoder(message.content_type, reply)))
                except EventBusError as error:
                    answers.append(error)
                if len(answers) == count:
                    break
        return answers


async def _each(events: Iterable[object] | AsyncIterable[object]) -> Any:
    if isinstance(events, AsyncIterable):
        async for event in events:
            yield event
    else:
        for event in events:
            yield event


def _catch_signals(loop: asyncio.AbstractEventLoop, handler: Callable[[], None]) -> list[signal.Signals]:
    caught = []
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, handler)
            caught.append(number)
        except (
            NotImplementedError,
            RuntimeError,
            ValueError,
        ):  # not the main thread, or no such signals here
            break
    return caught
