"""Label values that stay few: what strangers write into headers must not become a series for each message."""

from __future__ import annotations

import threading

OTHER = "other"
UNTYPED = "untyped"
MAX_LENGTH = 160


class Bounded:
    """At most ``limit`` distinct values, first come first served; every further one is ``other``.

    A value of doubtful origin gets only a ``share`` of the places, so that a flood of invented names never takes
    those of the program's own.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, value: str, *, share: float = 1.0) -> str:
        """``value``, or ``other``."""
        if value in self._known:
            return value
        if len(value) > MAX_LENGTH:
            return OTHER
        with self._lock:
            if len(self._known) >= self._limit * share:
                return OTHER
            self._known.add(value)
        return value
