"""The place of faults that need no broker: a folder with a bus file for each run, looked at with SQL of our own."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.faults.brokers import Node, Site

WHERE = {
    "ready": "SELECT message FROM ready",
    "held": "SELECT message FROM held",
    "scheduled": "SELECT message FROM scheduled",
}


@dataclass
class FileSite(Site):
    """The bus file of one run."""

    path: Path = field(default_factory=Path)

    @property
    def host(self) -> str:
        """There is none."""
        return ""

    def url(self, host: str | None = None, *, scheme: str = "sqlite", **options: Any) -> str:
        """The URL of the file; it has no connections, and so no heartbeats."""
        query = "&".join(f"{name}={value}" for name, value in options.items() if name != "heartbeat")
        return f"{scheme}:///{quote(str(self.path))}{'?' + query if query else ''}"

    @contextlib.contextmanager
    def sql(self) -> Iterator[sqlite3.Connection]:
        """The file, opened as any other program would."""
        connection = sqlite3.connect(self.path, timeout=20, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    def ready(self, queue: str) -> int:
        """Messages of a queue that are not settled."""
        with self.sql() as connection:
            return sum(
                connection.execute(
                    f"SELECT count(*) FROM {table} WHERE queue = (SELECT id FROM queues WHERE name = ?)", (queue,)
                ).fetchone()[0]
                for table in WHERE
            )

    def sound(self) -> list[str]:
        """What is wrong with the file: damage, rows that belong to nothing, messages in two places."""
        with self.sql() as connection:
            (checked,) = connection.execute("PRAGMA integrity_check").fetchone()
            found = [] if checked == "ok" else [f"integrity_check: {checked}"]
            for what, query in FAULTY.items():
                (count,) = connection.execute(f"SELECT count(*) FROM ({query})").fetchone()
                if count:
                    found.append(f"{count} {what}")
        return found

    def remove(self) -> None:
        """Delete it, and the small disk that it may have lain on."""
        if self.path.parent.is_mount():
            subprocess.run(["umount", "-l", self.path.parent], check=False)
        shutil.rmtree(self.path.parent, ignore_errors=True)


_PLACED = " UNION ALL ".join(WHERE.values())

FAULTY = {
    "messages in two places": f"SELECT message FROM ({_PLACED}) GROUP BY message HAVING count(*) > 1",
    "messages that lie nowhere": f"SELECT id FROM messages EXCEPT SELECT message FROM ({_PLACED})",
    "places without a message": f"SELECT message FROM ({_PLACED}) EXCEPT SELECT id FROM messages",
    "claims of no session": "SELECT id FROM held WHERE session NOT IN (SELECT id FROM sessions)",
    "consumers of no session": "SELECT id FROM consumers WHERE session NOT IN (SELECT id FROM sessions)",
}
"""What no bus file may ever show, in any snapshot. A message has one row in ``messages`` and one place for it."""


class FileNode(Node):
    """Stands where a broker stands for other faults, and starts nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Nothing runs."""

    def log_text(self) -> str:
        """There is no broker that could have written a log."""
        return ""

    def site(self, name: str) -> FileSite:
        """A folder for a new file."""
        folder = self.folder / f"{name}-{secrets.token_hex(2)}"
        folder.mkdir()
        return FileSite(self, name, "nobody", secrets.token_hex(16), folder / "bus.db")


class Watching:
    """Looks at a file again and again while others work with it: at no moment may :data:`FAULTY` find anything."""

    def __init__(self, site: FileSite, every: float = 0.05) -> None:
        self._site, self._every = site, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watching")
        self.looks = 0
        self.most_held = 0
        self.found: list[str] = []

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        with self._site.sql() as connection:
            while not self._stop.wait(self._every):
                self._look(connection)

    def _look(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # one snapshot for all questions
        try:
            self.most_held = max(self.most_held, connection.execute("SELECT count(*) FROM held").fetchone()[0])
            for what, query in FAULTY.items():
                rows = connection.execute(f"{query} LIMIT 5").fetchall()
                if rows:
                    self.found.append(f"{time.monotonic():.3f}: {what}: {rows}")
        finally:
            connection.execute("ROLLBACK")
        self.looks += 1
