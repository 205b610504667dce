"""How many messages are ready in queues that are bounded: counted once, then kept as long as nobody else writes."""

from __future__ import annotations

import sqlite3


class Sizes:
    """Sizes of queues, by their ids. Whoever adds or removes ready messages says so by :meth:`change`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._sizes: dict[int, int] = {}
        self._version = -1
        self._fresh = False

    def begin(self) -> None:
        """A transaction has begun: others may have written before it."""
        self._fresh = False

    def forget(self) -> None:
        """A transaction was rolled back."""
        self._sizes.clear()

    def knows(self, queue: int) -> bool:
        """Whether :meth:`of` need not count; where it must, all rows have to be in the file."""
        if not self._fresh:
            # Changes when another connection has written: https://www.sqlite.org/pragma.html#pragma_data_version
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                self._sizes.clear()
            self._version, self._fresh = version, True
        return queue in self._sizes

    def of(self, queue: int) -> int:
        """The size of the queue."""
        if not self.knows(queue):
            (size,) = self._connection.execute("SELECT count(*) FROM ready WHERE queue = ?", (queue,)).fetchone()
            self._sizes[queue] = size
        return self._sizes[queue]

    def change(self, queue: int, by: int) -> None:
        """So many more, or fewer."""
        if queue in self._sizes:
            self._sizes[queue] += by
