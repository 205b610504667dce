"""persist-queue's SQLiteAckQueue: put, get and ack each commit by themselves; there are no batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from persistqueue import Empty, SQLiteAckQueue

from benchmarks.sqlite.clients.store import PATIENT, Taken, read_pragmas, run

CLEAR_AFTER = 1000
"""Acked messages stay in the table until they are cleared, and every get has to pass them."""


class AsItIs:
    """A serializer that leaves bytes alone: pickling is not what is compared."""

    @staticmethod
    def dumps(value: bytes) -> bytes:
        """As it is."""
        return value

    @staticmethod
    def loads(value: bytes) -> bytes:
        """As it is."""
        return value


class PersistQueue:
    """Its two connections are one unless threads are asked for. The library sets WAL; SQLite's default is FULL."""

    pause, one_by_one = 0.01, True

    def __init__(self, file: Path, synchronous: str) -> None:
        # auto_resume would take away what other processes hold.
        self.queue = SQLiteAckQueue(
            str(file.parent), db_file_name=file.name, serializer=AsItIs, timeout=PATIENT, auto_resume=False
        )
        self._acked = 0
        for connection in self._connections():
            connection.execute(f"PRAGMA synchronous={synchronous}")

    def _connections(self) -> list[Any]:
        return [self.queue._putter, self.queue._getter]

    def put(self, body: bytes) -> None:
        """Commits."""
        self.queue.put(body)

    def put_many(self, found: Sequence[bytes], window: int) -> None:
        """One by one: an ack queue has nothing else."""
        for body in found:
            self.queue.put(body)

    def take(self, most: int) -> Sequence[Taken]:
        """Each get is a SELECT, then an UPDATE that commits."""
        taken: list[Taken] = []
        try:
            while len(taken) < most:
                found = self.queue.get(block=False, raw=True)
                taken.append((found["pqid"], found["data"]))
        except Empty:
            pass
        return taken

    def done(self, taken: Sequence[Taken]) -> None:
        """Each ack commits; what is acked is cleared now and then, as its documentation says."""
        for id, _ in taken:
            self.queue.ack(id=id)
        self._acked += len(taken)
        if self._acked >= CLEAR_AFTER:
            self.queue.clear_acked_data(max_delete=self._acked, keep_latest=0)
            self._acked = 0

    def pragmas(self) -> dict[str, str]:
        """Of both connections, which must agree."""
        first, second = map(read_pragmas, self._connections())
        if first != second:
            raise SystemExit(f"its connections differ: {first}, {second}")
        return first

    def left(self) -> int:
        """All that are not acked."""
        table = self.queue._table_name
        return int(self.queue._getter.execute(f"SELECT count(*) FROM {table} WHERE status < 5").fetchone()[0])

    def fill(self, found: Sequence[bytes]) -> None:
        """Past the library, which would commit each."""
        rows = [(body, time.time()) for body in found]
        with self.queue._putter as transaction:
            transaction.executemany(self.queue._sql_insert, rows)


if __name__ == "__main__":
    run(PersistQueue)
