"""huey's SqliteHuey: its storage without tasks and pickling around it, which would make it slower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huey import SqliteHuey

from benchmarks.sqlite.clients.store import PATIENT, Taken, read_pragmas, run


class Huey:
    """``fsync=True`` is ``synchronous=FULL``; ``NORMAL`` is not offered, and is set on its connection."""

    pause, one_by_one = 0.01, True

    def __init__(self, file: Path, synchronous: str) -> None:
        made = SqliteHuey("benchmarks", filename=str(file), fsync=True, timeout=PATIENT)
        self.storage = made.storage
        if synchronous != "FULL":
            self.storage.conn.execute(f"PRAGMA synchronous={synchronous}")

    def put(self, body: bytes) -> None:
        """Commits."""
        self.storage.enqueue(body)

    def put_many(self, found: Sequence[bytes], window: int) -> None:
        """One by one: there is nothing else."""
        for body in found:
            self.storage.enqueue(body)

    def take(self, most: int) -> Sequence[Taken]:
        """Each is a transaction that deletes it."""
        taken: list[Taken] = []
        while len(taken) < most and (data := self.storage.dequeue()) is not None:
            taken.append((None, bytes(data)))
        return taken

    def done(self, taken: Sequence[Taken]) -> None:
        """There is no ack."""

    def pragmas(self) -> dict[str, str]:
        """Of its connection."""
        return read_pragmas(self.storage.conn)

    def left(self) -> int:
        """All rows of the queue."""
        return int(self.storage.queue_size())

    def fill(self, found: Sequence[bytes]) -> None:
        """Past the library, which would commit each."""
        rows = [(self.storage.name, body) for body in found]
        with self.storage.db(commit=True) as cursor:
            cursor.executemany("INSERT INTO task (queue, data, priority) VALUES (?, ?, 0)", rows)


if __name__ == "__main__":
    run(Huey)
