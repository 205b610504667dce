"""Asking from tasks: requests on their way, and the consumer of their replies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from eventbus._bus._sending import Asking
from eventbus._bus._words import no_reply_address, request_error
from eventbus._ids import correlation_id
from eventbus._message import Incoming, Message
from eventbus._outgoing import PublishOptions
from eventbus._replies import PendingReplies, replies_lost

if TYPE_CHECKING:
    from eventbus._bus._async import AsyncEventBus
    from eventbus._bus._async_runtime import AsyncRuntime


class AsyncReplies:
    """Listener of the reply consumer: knows the address to ask for, and fails what waits when it is lost."""

    def __init__(self, pending: PendingReplies) -> None:
        self._pending = pending
        self._ready = asyncio.Event()
        self.known = ""
        """The address, while there is one."""

    def delivered(self, incoming: Incoming, /) -> None:
        self._pending.resolve(incoming.message)

    def started(self, queue: str, /) -> None:
        self.known = queue
        self._ready.set()

    def stopped(self, error: Exception | None, /) -> None:
        self.known = ""
        self._ready.clear()
        self._pending.fail_all(replies_lost())

    async def address(self, timeout: float) -> str | None:
        """Where replies shall go, once the broker has said so; None at the timeout."""
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                while not self.known:
                    await self._ready.wait()
        except TimeoutError:
            return None
        return self.known


class _Box:
    """What came for one request, and the task that waits for it."""

    __slots__ = ("_arrived", "_many", "_waiter")

    def __init__(self, *, many: bool) -> None:
        self._arrived: list[Message | Exception] = []
        self._waiter: asyncio.Future[None] | None = None
        self._many = many

    def take(self, reply: Message | Exception) -> bool:
        """A reply, or the error that ends the wait; True when no more is wanted."""
        self._arrived.append(reply)
        if self._waiter is not None:
            _wake(self._waiter)
        return not self._many or isinstance(reply, Exception)

    async def next(self, loop: asyncio.AbstractEventLoop, deadline: float) -> Message | None:
        """The next reply; None at the deadline. Raises an error that came in its place."""
        if not self._arrived:
            self._waiter = loop.create_future()
            timer = loop.call_later(max(0.0, deadline - time.monotonic()), _wake, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
            if not self._arrived:
                return None
        reply = self._arrived.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class AsyncAsker:
    """Sends the requests of one runtime."""

    def __init__(self, bus: AsyncEventBus, runtime: AsyncRuntime) -> None:
        self._bus = bus
        self._runtime = runtime
        self.pending = PendingReplies()
        self._replies: AsyncReplies | None = None

    async def one(self, request: Any, options: PublishOptions) -> Message | None:
        """The first reply; None when there is none by the deadline."""
        correlation, deadline, box = (
            options.correlation_id or correlation_id(),
            self._deadline(options),
            _Box(many=False),
        )
        try:
            await self._ask(request, options, correlation, deadline, box)
            return await box.next(self._runtime.loop, deadline)
        finally:
            self.pending.discard(correlation)

    async def many(self, request: Any, options: PublishOptions) -> AsyncGenerator[Message, None]:
        """The replies that come by the deadline."""
        correlation, deadline, box = (
            options.correlation_id or correlation_id(),
            self._deadline(options),
            _Box(many=True),
        )
        try:
            await self._ask(request, options, correlation, deadline, box)
            while (reply := await box.next(self._runtime.loop, deadline)) is not None:
                yield reply
        finally:
            self.pending.discard(correlation)

    def _deadline(self, options: PublishOptions) -> float:
        return time.monotonic() + (self._bus.timeout if options.timeout is None else options.timeout)

    async def _ask(self, request: Any, options: PublishOptions, correlation: str, deadline: float, box: _Box) -> None:
        replies = self._replies
        address = replies.known if replies is not None else ""
        if not address:
            address = await self._address(deadline)
        timeout = self._bus.timeout if options.timeout is None else options.timeout
        message = self._bus._request(request, options, timeout, correlation, address)
        self.pending.add(correlation, box.take)
        runtime = self._runtime
        asking = Asking(
            self._bus,
            runtime.window,
            message,
            deadline,
            lambda error: self.pending.fail(correlation, request_error(error)),
        )
        if not self._bus._send_now(runtime, asking):
            await self._bus._send(runtime, asking)

    async def _address(self, deadline: float) -> str:
        replies = self._replies
        if replies is None:
            replies = self._replies = AsyncReplies(self.pending)
            self._runtime.link.consume(self._bus._reply_consumer(), replies)
        address = await replies.address(deadline - time.monotonic())
        if address is None:
            raise no_reply_address(self._runtime.link.status())
        return address
