"""What waits for the engine's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from eventbus._errors import NotSent

from ._work import Publish, Settle, Tell, Work, fail_late

_MOST = 2000


class Inbox:
    """Work in its order. Any thread puts some in; who takes some holds the engine's lock, but for the end of a link.

    ``tell`` gives publishes their outcomes; ``dropped`` hears how many settlements came to nothing.
    """

    def __init__(self, tell: Tell, dropped: Callable[[int], None]) -> None:
        self._tell = tell
        self._dropped = dropped
        self._works: deque[Work] = deque()
        self._at_work: list[Work] = []

    def __bool__(self) -> bool:
        return bool(self._works)

    def put(self, work: Work) -> None:
        """Behind all others."""
        self._works.append(work)

    def take(self) -> list[Work]:
        """What one transaction shall do."""
        self._at_work = self._take(_MOST)
        return self._at_work

    def put_back(self, works: list[Work]) -> None:
        """These were taken and not done; they go in front."""
        self._works.extendleft(reversed(works))
        self._at_work = []

    def done(self) -> None:
        """What was taken is done."""
        self._at_work = []

    @property
    def unconfirmed(self) -> int:
        """Publishes that have no outcome yet."""
        works = (*self._at_work, *self._works.copy())
        return sum(isinstance(work, Publish) and work.done is not None for work in works)

    def lose(self, works: list[Work]) -> None:
        """The session of these is over: settlements are void, and the rest is done in the next one."""
        self.put_back([work for work in works if not isinstance(work, Settle)])
        self._drop(works)

    def fail_late(self, reason: str) -> None:
        """While nothing can be written, publishes wait no longer than they may."""
        self._works.extendleft(reversed(fail_late(self._take(None), reason, self._tell)))

    def fail_all(self, error: NotSent) -> None:
        """Nothing of it will be done."""
        works = self._take(None)
        for work in works:
            if isinstance(work, Publish):
                self._tell(work, error)
        self._drop(works)

    def _drop(self, works: list[Work]) -> None:
        settlements = sum(isinstance(work, Settle) for work in works)
        if settlements:
            self._dropped(settlements)

    def _take(self, most: int | None) -> list[Work]:
        works: list[Work] = []
        try:
            while most is None or len(works) < most:
                works.append(self._works.popleft())
        except IndexError:  # asked for by trying: at the end two threads may take
            pass
        return works
