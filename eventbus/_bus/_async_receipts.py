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


FEW = 16


class Awaited:
    """The receipts that tasks wait for. Those that a transport has left without an outcome are given one.

    One timer for all of them: transports keep their deadlines, so this one is for the case that one does not.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: list[AsyncReceipt] = []
        self._most = FEW
        self._timer: asyncio.TimerHandle | None = None

    def add(self, receipt: AsyncReceipt) -> None:
        """Somebody waits for this one."""
        if len(self._waiting) >= self._most:  # a receipt holds its message: those that have ended must not pile up
            self._waiting = [one for one in self._waiting if not one.done()]
            self._most = max(FEW, 2 * len(self._waiting))
        self._waiting.append(receipt)
        if self._timer is None:
            self._timer = self.loop.call_later(PATIENCE, self._sweep)

    def _sweep(self) -> None:
        late = time.monotonic() - PATIENCE
        open_ = [receipt for receipt in self._waiting if not receipt.done()]
        for receipt in open_:
            if receipt.deadline < late:
                receipt.give_up()
        self._waiting = [receipt for receipt in open_ if receipt.deadline >= late]
        self._timer = self.loop.call_later(PATIENCE, self._sweep) if self._waiting else None

    def stop(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()


class AsyncReceipt(Sending):
    """A publish on its way: ``await receipt`` returns when the broker has confirmed it, or raises the PublishError."""

    __slots__ = ("_awaited", "_callbacks", "_error", "_settled", "_waiting")

    def __init__(self, bus: BusCore, window: Leavable, event: Any, options: PublishOptions, awaited: Awaited) -> None:
        super().__init__(bus, window, event, options)
        self._awaited = awaited
        self._settled = False
        self._error: PublishError | None = None
        # Each waiter has a future of its own: one that is cancelled takes nothing from the others.
        self._waiting: list[asyncio.Future[None]] | None = None
        self._callbacks: list[Callable[[AsyncReceipt], None]] | None = None

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
            await self._waiter()
        return self._error if self._settled else PublishUnknown(SILENT)

    def _waiter(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = self._awaited.loop.create_future()
        if self._waiting is None:
            self._waiting = []
            self._awaited.add(self)
        self._waiting.append(waiter)
        return waiter

    def add_done_callback(self, function: Callable[[AsyncReceipt], None]) -> None:
        """Call ``function(receipt)`` at the outcome, on the loop."""
        if self._settled:
            self._awaited.loop.call_soon(function, self)
        elif self._callbacks is None:
            self._callbacks = [function]
        else:
            self._callbacks.append(function)

    def _ended(self, error: PublishError | None) -> None:
        self._error = error
        self._settled = True
        self.give_up()
        if self._callbacks is not None:
            for function in self._callbacks:
                self._awaited.loop.call_soon(function, self)

    def give_up(self) -> None:
        """Wake those that wait, with whatever is known."""
        if self._waiting is not None:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)

    def __await__(self) -> Generator[object, None, None]:
        if not self._settled:
            yield from self._waiter()
        error = self._error if self._settled else PublishUnknown(SILENT)
        if error is not None:
            raise error
