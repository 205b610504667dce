"""Functions to be called later."""

from __future__ import annotations

import heapq
import itertools
import time

from ._work import Effect


class Timers:
    """Functions by the time when they are due. Any thread adds some; one takes those that are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Effect]] = []
        self._order = itertools.count()

    def add(self, seconds: float, function: Effect) -> None:
        """Call it in so many seconds."""
        heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._order), function))

    @property
    def next(self) -> float:
        """When the first one is due (monotonic)."""
        return self._heap[0][0] if self._heap else float("inf")

    def due(self) -> list[Effect]:
        """Take out those that are due."""
        found: list[Effect] = []
        while self.next <= time.monotonic():
            found.append(heapq.heappop(self._heap)[2])
        return found
