"""The window of threads: places for publishes without an outcome."""

from __future__ import annotations

import threading
import time


class Window:
    """Counts them; those that find none wait."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._lock = threading.Lock()
        self._free = threading.Condition(self._lock)
        self._empty = threading.Condition(self._lock)
        self._waiting = 0

    def enter(self, deadline: float) -> bool:
        """Take a place; False when there was none until the deadline."""
        with self._lock:
            if self.taken >= self.size:
                self._waiting += 1
                try:
                    if not self._free.wait_for(lambda: self.taken < self.size, max(0.0, deadline - time.monotonic())):
                        return False
                finally:
                    self._waiting -= 1
            self.taken += 1
        return True

    def leave(self) -> None:
        """Give a place back."""
        with self._lock:
            self.taken -= 1
            if self._waiting:
                self._free.notify()
            if self.taken == 0:
                self._empty.notify_all()

    def wait_empty(self, until: float) -> None:
        """Until no place is taken, or that time."""
        with self._lock:
            self._empty.wait_for(lambda: self.taken == 0, max(0.0, until - time.monotonic()))
