"""Receipts for tasks: handles of publishes that are not confirmed yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator

from eventbus._errors import PublishError
from eventbus._message import Message


class AsyncReceipt:
    """A publish on its way: ``await receipt`` returns when the broker has confirmed it, or raises the PublishError."""

    __slots__ = ("_future", "message")

    def __init__(self, message: Message, future: asyncio.Future[PublishError | None]) -> None:
        self.message = message
        self._future = future

    @property
    def id(self) -> str:
        """The message's id."""
        return self.message.id

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._future.done()

    async def error(self) -> PublishError | None:
        """The outcome: None when confirmed."""
        # Shielded: a cancelled waiter must not take the outcome from the others.
        return await asyncio.shield(self._future)

    def add_done_callback(self, function: Callable[[AsyncReceipt], None]) -> None:
        """Call ``function(receipt)`` at the outcome, on the loop."""
        self._future.add_done_callback(lambda _: function(self))

    def __await__(self) -> Generator[object, None, None]:
        error = yield from asyncio.shield(self._future).__await__()
        if error is not None:
            raise error
