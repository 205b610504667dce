"""The window of threads: places for publishes without an outcome."""

from __future__ import annotations

import queue
import threading
import time


class Window:
    """A token for each place. Taking one and giving it back are single steps of C: no lock of ours."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(size):
            self._free.put(None)
        self._empty: threading.Event | None = None

    @property
    def taken(self) -> int:
        """Publishes without an outcome."""
        return self.size - self._free.qsize()

    def enter(self, deadline: float) -> bool:
        """Take a place; False when there was none until the deadline."""
        try:
            self._free.get_nowait()
        except queue.Empty:
            try:
                self._free.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return False
        return True

    def leave(self) -> None:
        """Give a place back."""
        self._free.put(None)
        if self._empty is not None and not self.taken:
            self._empty.set()

    def wait_empty(self, until: float) -> None:
        """Until no place is taken, or that time."""
        self._empty = threading.Event()  # before looking, so that the last to leave sees it
        if self.taken:
            self._empty.wait(max(0.0, until - time.monotonic()))
