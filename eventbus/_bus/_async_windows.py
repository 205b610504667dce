"""The window of tasks: places for publishes without an outcome."""

from __future__ import annotations

import asyncio
import time
from collections import deque


class AsyncWindow:
    """Counts them; the longest waiting gets the next free one."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._empty: asyncio.Future[None] | None = None

    def enter_now(self) -> bool:
        """Take a place if there is one and nobody waits for it."""
        if self.taken < self.size and not self._waiting:
            self.taken += 1
            return True
        return False

    async def enter(self, deadline: float) -> bool:
        """Take a place; False when there was none until the deadline."""
        if self.enter_now():
            return True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place had been given to us already
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def leave(self) -> None:
        """Give a place back."""
        self.taken -= 1
        while self._waiting and self.taken < self.size:
            turn = self._waiting.popleft()
            if not turn.done():
                self.taken += 1
                turn.set_result(None)
        if self.taken == 0 and self._empty is not None:
            if not self._empty.done():
                self._empty.set_result(None)
            self._empty = None

    async def wait_empty(self, until: float) -> None:
        """Until no place is taken, or that time."""
        while self.taken:
            if self._empty is None:
                self._empty = asyncio.get_running_loop().create_future()
            done, _ = await asyncio.wait({self._empty}, timeout=max(0.0, until - time.monotonic()))
            if not done:
                return
