"""When a batch is there: pure, for both buses. Time comes in as numbers."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Gathering(Generic[T]):
    """Collects items into batches of ``size``, or of what is there ``wait`` seconds after the first.

    At most ``concurrency`` batches are at work at once; meanwhile items wait, and are handed out as soon as there is a
    place if they make a batch or their time is over.
    """

    def __init__(self, size: int, wait: float, concurrency: int) -> None:
        self._size = size
        self._wait = wait
        self._free = self._all = concurrency
        self._items: deque[tuple[int, float, T]] = deque()
        self._count = 0
        self._overdue = 0

    @property
    def running(self) -> int:
        """Batches at work."""
        return self._all - self._free

    @property
    def waiting(self) -> int:
        """Items that are in no batch yet."""
        return len(self._items)

    def put(self, item: T, now: float) -> bool:
        """An item has come. Gives whether that changes what there is to do: a batch is full, or a first item waits."""
        self._count += 1
        self._items.append((self._count, now, item))
        return len(self._items) == 1 or len(self._items) >= self._size

    def take(self, now: float) -> list[T] | None:
        """The next batch, if there is one now."""
        if not self._free or not self._items:
            return None
        number, came, _ = self._items[0]
        if len(self._items) < self._size and number > self._overdue and came + self._wait > now:
            return None
        self._free -= 1
        return [self._items.popleft()[2] for _ in range(min(self._size, len(self._items)))]

    def ended(self) -> None:
        """A batch is done."""
        self._free += 1

    def next_due(self, now: float) -> tuple[int, float] | None:
        """The first item, if a place waits for it, and the seconds until its time is over."""
        if not self._free or not self._items:
            return None
        number, came, _ = self._items[0]
        return number, max(0.0, came + self._wait - now)

    def overdue(self, number: int) -> None:
        """The time of this item is over, and with it that of all before it; told by a timer, whose clock may differ."""
        self._overdue = max(self._overdue, number)

    def clear(self) -> list[T]:
        """Take out what is in no batch."""
        items = [item for _, _, item in self._items]
        self._items.clear()
        return items
