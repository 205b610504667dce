"""sqlite3 by itself: one table and one statement for each thing, as little as there can be."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sqlite.clients.store import PATIENT, Taken, read_pragmas, run

ATTRIBUTES = json.dumps(
    {
        "id": "01a20863-9ee4-7a07-ae1d-0123456789ab",
        "source": "benchmarks",
        "type": "benchmarks.peers.measured",
        "specversion": "1.0",
        "time": "2026-01-01T00:00:00.000000Z",
        "subject": "benchmarks.peers.measured",
    }
)
INSERT = "INSERT INTO messages (attributes, body) VALUES (?, ?)"
TAKE = "DELETE FROM messages WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT ?) RETURNING id, body"


class Bare:
    """A connection. Taking deletes, in one transaction: a queue that keeps its word has to do more."""

    pause, one_by_one = 0.001, False

    def __init__(self, file: Path, synchronous: str) -> None:
        self.connection = sqlite3.connect(file, timeout=PATIENT)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(f"PRAGMA synchronous={synchronous}")
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, attributes TEXT NOT NULL, body BLOB NOT NULL)"
        )
        self.connection.commit()

    def put(self, body: bytes) -> None:
        """An INSERT and its commit."""
        self.connection.execute(INSERT, (ATTRIBUTES, body))
        self.connection.commit()

    def put_many(self, found: Sequence[bytes], window: int) -> None:
        """Transactions of the window."""
        for first in range(0, len(found), window):
            self.connection.executemany(INSERT, [(ATTRIBUTES, body) for body in found[first : first + window]])
            self.connection.commit()

    def take(self, most: int) -> Sequence[Taken]:
        """A look that takes no lock, then the transaction."""
        if self.connection.execute("SELECT 1 FROM messages LIMIT 1").fetchone() is None:
            return ()
        taken: Sequence[Taken] = self.connection.execute(TAKE, (most,)).fetchall()
        self.connection.commit()
        return taken

    def done(self, taken: Sequence[Taken]) -> None:
        """They are gone already."""

    def pragmas(self) -> dict[str, str]:
        """Of the only connection."""
        return read_pragmas(self.connection)

    def left(self) -> int:
        """All rows."""
        return int(self.connection.execute("SELECT count(*) FROM messages").fetchone()[0])

    def fill(self, found: Sequence[bytes]) -> None:
        """One transaction."""
        self.put_many(found, len(found))


if __name__ == "__main__":
    run(Bare)
