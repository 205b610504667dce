"""litequeue: puts may share a transaction, pops may not; done marks a message, and prune deletes the marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from litequeue import LiteQueue

from benchmarks.sqlite.clients.store import PATIENT, Taken, read_pragmas, run

PRUNE_AFTER = 1000


class Lite:
    """The library sets WAL and ``synchronous=NORMAL``; what is asked for is set afterwards."""

    pause, one_by_one = 0.01, True

    def __init__(self, file: Path, synchronous: str) -> None:
        self.queue = LiteQueue(str(file), timeout=PATIENT)
        self.queue.conn.execute(f"PRAGMA synchronous={synchronous}")
        self._done = 0

    def put(self, body: bytes) -> None:
        """Commits by itself."""
        self.queue.put(body.decode())

    def put_many(self, found: Sequence[bytes], window: int) -> None:
        """Transactions of the window."""
        for first in range(0, len(found), window):
            with self.queue.transaction(mode="IMMEDIATE"):
                for body in found[first : first + window]:
                    self.queue.put(body.decode())

    def take(self, most: int) -> Sequence[Taken]:
        """Each pop is a transaction."""
        taken: list[Taken] = []
        while len(taken) < most and (message := self.queue.pop()) is not None:
            # Newer versions (Python 3.12 and up) settle a claim, older ones a message.
            claim = {"claim_id": message.claim_id} if hasattr(message, "claim_id") else {}
            taken.append(((message.message_id, claim), message.data))
        return taken

    def done(self, taken: Sequence[Taken]) -> None:
        """Each commits; what is done is pruned now and then."""
        for (id, claim), _ in taken:
            self.queue.done(id, **claim)
        self._done += len(taken)
        if self._done >= PRUNE_AFTER:
            self.queue.prune()
            self._done = 0

    def pragmas(self) -> dict[str, str]:
        """Of its connection."""
        return read_pragmas(self.queue.conn)

    def left(self) -> int:
        """Ready or locked."""
        return int(self.queue.qsize())

    def fill(self, found: Sequence[bytes]) -> None:
        """One transaction."""
        self.put_many(found, len(found))


if __name__ == "__main__":
    run(Lite)
