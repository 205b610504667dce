"""Messages that wait in a queue, in the order in which they will be delivered."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from eventbus.transport import Message


class Entry:
    """A message's place in one queue. ``expires`` is clock time; ``deliveries`` counts those that came back."""

    __slots__ = ("deliveries", "expires", "message", "order", "redelivered")

    def __init__(self, message: Message, order: int, expires: float | None) -> None:
        self.message = message
        self.order = order
        self.expires = expires
        self.deliveries = 0
        self.redelivered = False

    def __lt__(self, other: Entry) -> bool:
        return self.order < other.order


class _Lane:
    """Entries of one priority. All that came back were ahead of all that have never left, and are so again."""

    __slots__ = ("fresh", "returned")

    def __init__(self) -> None:
        self.fresh: deque[Entry] = deque()
        self.returned: list[Entry] = []  # a heap by order


class Ready:
    """Waiting entries: higher priorities first, in one priority by order.

    Messages without priority have 0; priorities above the maximum count as the maximum
    (https://www.rabbitmq.com/docs/priority).
    """

    __slots__ = ("_lanes", "_only", "_size")

    def __init__(self, max_priority: int | None = None) -> None:
        self._lanes = [_Lane() for _ in range((max_priority or 0) + 1)]
        self._only = self._lanes[0] if len(self._lanes) == 1 else None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Entry]:
        for lane in reversed(self._lanes):
            yield from sorted(lane.returned)
            yield from lane.fresh

    def put(self, entry: Entry) -> None:
        """Behind all others of its priority."""
        self._lane(entry).fresh.append(entry)
        self._size += 1

    def put_back(self, entry: Entry) -> None:
        """Before all that have never been delivered, among those that came back by ``order``."""
        heapq.heappush(self._lane(entry).returned, entry)
        self._size += 1

    def head(self) -> Entry:
        """The next one to deliver; there must be one."""
        lane = self._first()
        return lane.returned[0] if lane.returned else lane.fresh[0]

    def pop(self) -> Entry:
        """Take out the next one to deliver; there must be one."""
        lane = self._first()
        self._size -= 1
        return heapq.heappop(lane.returned) if lane.returned else lane.fresh.popleft()

    def clear(self) -> int:
        """Take out all; says how many there were."""
        size, self._size = self._size, 0
        for lane in self._lanes:
            lane.fresh.clear()
            lane.returned.clear()
        return size

    def _lane(self, entry: Entry) -> _Lane:
        if self._only is not None:
            return self._only
        return self._lanes[max(0, min(entry.message.priority or 0, len(self._lanes) - 1))]

    def _first(self) -> _Lane:
        if self._only is not None:
            return self._only
        for lane in reversed(self._lanes):
            if lane.returned or lane.fresh:
                return lane
        raise IndexError("no entry")
