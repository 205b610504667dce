"""When to forget old ids."""

from __future__ import annotations

import threading
import time

STEP = 500
"""Most ids that are forgotten in one transaction."""
WEEK = 7 * 86400.0


class Cleaning:
    """Says when a step is due: one every ``every`` seconds, and at once while there is more than a step removes."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._due = time.monotonic() + every
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether a step is due; it is the caller's then."""
        if time.monotonic() < self._due:
            return False
        with self._lock:
            if time.monotonic() < self._due:
                return False
            self._due = time.monotonic() + self._every
            return True

    def ended(self, removed: int, size: int) -> None:
        """A step has removed so many of at most ``size``."""
        if removed >= size:
            self._due = 0.0
