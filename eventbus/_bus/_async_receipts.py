"""Receipts for tasks: handles of publishes that are not confirmed yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from eventbus._bus._sending import PATIENCE, SILENT, Leavable, Sending
from eventbus._errors import PublishError, PublishUnknown

if TYPE_CHECKING:
    from eventbus._bus._core import BusCore
    from eventbus._outgoing import PublishOptions


class AsyncReceipt(Sending):
    """A publish on its way: ``await receipt`` returns when the broker has confirmed it, or raises the PublishError."""

    __slots__ = ("_callbacks", "_error", "_loop", "_settled", "_waiting")

    def __init__(
        self,
        bus: BusCore,
        window: Leavable,
        event: Any,
        options: PublishOptions,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(bus, window, event, options)
        self._loop = loop
        self._settled = False
        self._error: PublishError | None = None
        # Each waiter has a future of its own: one that is cancelled takes nothing from the others.
        self._waiting: list[asyncio.Future[None]] = []
        self._callbacks: list[Callable[[AsyncReceipt], None]] = []

    @property
    def id(self) -> str:
        """The message's id."""
        return self.message.id

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._settled

    async def error(self) -> PublishError | None:
        """The outcome: None when confirmed."""
        if not self._settled:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(waiter)
            timer = self._loop.call_later(max(0.0, self.deadline + PATIENCE - time.monotonic()), _wake, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
            if not self._settled:
                return PublishUnknown(SILENT)
        return self._error

    def add_done_callback(self, function: Callable[[AsyncReceipt], None]) -> None:
        """Call ``function(receipt)`` at the outcome, on the loop."""
        if self._settled:
            self._loop.call_soon(function, self)
        else:
            self._callbacks.append(function)

    def _ended(self, error: PublishError | None) -> None:
        self._error = error
        self._settled = True
        for waiter in self._waiting:
            _wake(waiter)
        for function in self._callbacks:
            self._loop.call_soon(function, self)

    def __await__(self) -> Generator[object, None, None]:
        error = yield from self.error().__await__()
        if error is not None:
            raise error


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
