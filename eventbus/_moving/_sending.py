"""Messages on their way to the destination, each from its publish to its outcome, and how soon the next may go."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from eventbus._errors import PublishError
from eventbus._moving._carrying import carry
from eventbus._moving._flow import Item, Side

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


class Sending:
    """Sends within a window and a rate. What failed goes again in its old order, before anything else.

    That waits until everything under way has its outcome, and then goes one by one: so the message that is to blame for
    a refusal of several shows.
    """

    def __init__(
        self, destination: Side, *, window: int, rate: float | None, timeout: float, wake: Callable[[], None]
    ) -> None:
        self._destination = destination
        self._window, self._timeout = window, timeout
        self._gap = 0.0 if rate is None else 1 / rate
        self._wake = wake
        self._outcomes: deque[tuple[Item, PublishError | None]] = deque()
        self._failed: list[Item] = []
        self._again: deque[Item] = deque()
        self._numbers = itertools.count()
        self._due = self._pause_until = 0.0
        self._pause = FIRST_PAUSE
        self.open = 0
        """Messages without an outcome."""

    @property
    def count(self) -> int:
        """Messages that were sent, or are to be sent again."""
        return self.open + len(self._failed) + len(self._again)

    @property
    def ready_outcomes(self) -> bool:
        """Whether there are outcomes to look at."""
        return bool(self._outcomes)

    @property
    def rests(self) -> float:
        """Seconds until the next may go, by the rate or after a failure."""
        return max(self._due, self._pause_until) - time.monotonic()

    @property
    def paced(self) -> bool:
        """Whether it waits for the rate alone."""
        return time.monotonic() < self._due

    def next_of(self, waiting: deque[Item], full: bool) -> Item | None:
        """The message that may go now: one that failed, else the first that waits unless enough is under way."""
        if self._failed or self.open >= self._window or not self._destination.ready or self.rests > 0:
            return None
        if self._again:
            return self._again.popleft() if not self.open else None
        return waiting.popleft() if waiting and not full else None

    def send(self, item: Item) -> None:
        """Publish a message."""
        carried = carry(item.incoming, item.consumer.flow.place, sent=item.sent, now=time.time())
        item.marked, item.number = carried.marked, next(self._numbers)
        self.open += 1
        deadline = time.monotonic() + self._timeout
        self._destination.link.publish(carried.message, deadline=deadline, done=partial(self._done, item))
        if self._gap:
            self._due = time.monotonic() + self._gap

    def _done(self, item: Item, error: PublishError | None) -> None:
        self._outcomes.append((item, error))
        self._wake()

    def outcomes(self) -> Iterator[tuple[Item, PublishError | None]]:
        """What has its outcome since. Those that are to go again are given to :meth:`failed`."""
        while self._outcomes:
            item, error = self._outcomes.popleft()
            self.open -= 1
            if error is None:
                self._pause = FIRST_PAUSE
            yield item, error
        if self._failed and not self.open:
            self._failed.sort(key=lambda failed: failed.number)
            self._again.extendleft(item for item in reversed(self._failed) if not item.stale)
            self._failed.clear()
            self._pause_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def failed(self, item: Item) -> None:
        """It goes again."""
        self._failed.append(item)

    def forget_stale(self) -> None:
        """The source hands some out anew."""
        self._again = deque(item for item in self._again if not item.stale)
