"""One round of a relay, as decisions: which row goes next, and what an outcome means for its row and its key."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable

from eventbus import DecodingError, EncodingError, ExchangeMissing, MessageTooLarge, NotSent, exponential
from eventbus._backoff import Backoff
from eventbus._settlement import error_text
from eventbus_outbox._rows import Row
from eventbus_outbox._table import Failed, Verdict

HOPELESS = (EncodingError, MessageTooLarge, ExchangeMissing, DecodingError)
"""What no further try mends; everything else is tried again for ever."""

RETRY = exponential(1, 60)
"""Pauses of a message that the broker did not confirm."""


class Round:
    """The rows of one claim on their way to the broker.

    Of each key one message at a time is under way, and one that is not confirmed ends its key's round: pipelining them
    would let a later one overtake one that the broker refuses. Messages without a key do not wait for each other.
    """

    def __init__(self, rows: Iterable[Row], *, stop_keys: bool = True, retry: Backoff = RETRY) -> None:
        self._stop_keys = stop_keys
        self._retry = retry
        self._ready: deque[Row] = deque()
        self._behind: dict[str, deque[Row]] = {}
        self._under_way: dict[int, Row] = {}
        self._confirmed: list[int] = []
        self._failed: list[Failed] = []
        self._set_aside: list[Failed] = []
        self._released: list[int] = []
        self.trouble: Exception | None = None
        """The last error that may be the broker's and not a message's."""
        for row in rows:
            if row.key is None:
                self._ready.append(row)
            elif row.key in self._behind:
                self._behind[row.key].append(row)
            else:
                self._behind[row.key] = deque()
                self._ready.append(row)

    def next(self) -> Row | None:
        """The next row to publish; None: outcomes must come first."""
        if not self._ready:
            return None
        row = self._ready.popleft()
        self._under_way[row.id] = row
        return row

    @property
    def under_way(self) -> bool:
        """Whether rows that were given out have no outcome yet."""
        return bool(self._under_way)

    def give_up(self, error: Exception) -> None:
        """Those that have no outcome get this one."""
        for row in list(self._under_way.values()):
            self.ended(row, error)

    def ended(self, row: Row, error: Exception | None) -> None:
        """A row has its outcome; None: the broker has confirmed it."""
        if self._under_way.pop(row.id, None) is None:
            return
        if error is None:
            self._confirmed.append(row.id)
            self._go_on(row)
        elif isinstance(error, HOPELESS):
            self._set_aside.append(Failed(row.id, _told(error)))
            if self._stop_keys:
                self._stop(row)
            else:
                self._go_on(row)
        elif isinstance(error, NotSent):
            # Not this message's fault: it keeps its place, and the relay waits.
            self.trouble = error
            self._released.append(row.id)
            self._stop(row)
        else:
            self.trouble = error
            self._failed.append(Failed(row.id, _told(error), self._retry.pause(row.attempts + 1, random.random())))
            self._stop(row)

    def stop(self) -> None:
        """Give out no more rows; those that were not given out go back."""
        while self._ready:
            row = self._ready.popleft()
            self._released.append(row.id)
            self._stop(row)
        for rows in self._behind.values():
            self._released.extend(row.id for row in rows)
        self._behind.clear()

    def _go_on(self, row: Row) -> None:
        if row.key is not None and self._behind.get(row.key):
            self._ready.append(self._behind[row.key].popleft())

    def _stop(self, row: Row) -> None:
        if row.key is not None:
            self._released.extend(later.id for later in self._behind.pop(row.key, ()))

    def verdict(self) -> Verdict:
        """What is to be written, when all have their outcome."""
        return Verdict(
            confirmed=self._confirmed,
            failed=self._failed,
            set_aside=self._set_aside,
            released=self._released,
            stop_keys=self._stop_keys,
        )


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error_text(error)}"
