"""The open file: one connection, its transactions, and the sessions that share it."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from eventbus._errors import ConfigurationError
from eventbus.transport import SCHEDULED, QueueCount

from ._failures import SAVE_WHAT_IS_LEFT, FileDamaged
from ._forking import refuse_tainted
from ._holding import Holding
from ._options import Options
from ._places import boot_id, check_place, create
from ._schema import migrate, version_of
from ._tables import QueueRow, SessionRow

CHECKED_SIZE = 64 * 2**20
"""Files up to this size are checked when they are opened; ``eventbus sqlite check`` does it for larger ones."""

_PAGES_AT_ONCE = 256


class SessionLost(Exception):
    """The lease has run out, or the session was ended by another process: all that it held was taken back."""


class Store(Holding):
    """A bus file. Not for several threads at once."""

    def __init__(self, path: Path, options: Options) -> None:
        path = path.resolve()  # SQLite's other files lie beside the real one
        refuse_tainted(path)
        check_place(path)
        create(path)
        connection = _connect(path)
        try:
            _prepare(connection, options)
        except ConfigurationError as error:
            connection.close()
            raise type(error)(f"{path}: {error}") from None
        except BaseException:
            connection.close()
            raise
        super().__init__(connection)
        self.path = path
        self._options = options
        self._boot = boot_id()
        self._synchronous = ""
        self._seen_data = self._data_version()
        self._inode = path.stat().st_ino

    # -- transactions -------------------------------------------------------------------------------------

    def start(self, session: int | None, *, durable: bool) -> None:
        """Begin a transaction.

        ``durable``: its commit returns when the disk has it (with ``synchronous=FULL``).

        :raises sqlite3.OperationalError: the file is locked; nothing has begun.
        :raises SessionLost: this session is no more; nothing has begun.
        """
        wanted = self._options.synchronous if durable else "NORMAL"
        if wanted != self._synchronous:
            self.connection.execute(f"PRAGMA synchronous = {wanted}")
            self._synchronous = wanted
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            version, highest, lease = self.connection.execute(
                "SELECT topology, (SELECT max(id) FROM messages), (SELECT lease FROM sessions WHERE id = ?) FROM state",
                (session,),
            ).fetchone()
            self.refresh(version)
            self.begin((highest or 0) + 1)
            if session is not None and (lease is None or lease < time.monotonic()):
                raise SessionLost
        except BaseException:
            self.rollback()
            raise

    def commit(self) -> None:
        """End the transaction; what it did is there for everybody."""
        self.write()
        self.settle_tables()
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction."""
        self.forget()
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def news(self) -> bool:
        """Whether another process has committed anything since this was last asked."""
        before, self._seen_data = self._seen_data, self._data_version()
        return before != self._seen_data

    def _data_version(self) -> int:
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def anything(self, queue: int) -> bool:
        """Whether messages wait in a queue."""
        return self.connection.execute("SELECT 1 FROM ready WHERE queue = ? LIMIT 1", (queue,)).fetchone() is not None

    def count(self, queue: QueueRow | None) -> QueueCount:
        """What waits in a queue, for its turn or for its time; without one, what is on its way to an exchange."""
        run, id = self.connection.execute, None if queue is None else queue.id
        (ready,) = run("SELECT count(*) FROM ready WHERE queue = ?", (id,)).fetchone()
        (scheduled,) = run("SELECT count(*) FROM scheduled WHERE queue IS ?", (id,)).fetchone()
        return QueueCount(ready=ready + scheduled, consumers=0 if queue is None else len(queue.consumers))

    def counts(self) -> dict[str, QueueCount]:
        """The queues that outlive their consumers, and what waits to be routed."""
        lasting = [queue for queue in self.queues.values() if queue.owner is None and not queue.properties.auto_delete]
        counted = {queue.name: self.count(queue) for queue in lasting}
        scheduled = self.count(None)
        return {**counted, SCHEDULED: scheduled} if scheduled.ready else counted

    # -- sessions -----------------------------------------------------------------------------------------

    def attach(self, service: str, address: str, place: str) -> int:
        """A session more; its id."""
        id = self._write(
            "INSERT INTO sessions (service, pid, address, place, boot, lease) VALUES (?, ?, ?, ?, ?, ?)",
            service,
            os.getpid(),
            address,
            place,
            self._boot,
            time.monotonic() + self._options.lease,
        )
        self.sessions[id] = SessionRow(id, address, place)
        return id

    def renew(self, session: int) -> None:
        """The session goes on."""
        self.connection.execute(
            "UPDATE sessions SET lease = ? WHERE id = ?", (time.monotonic() + self._options.lease, session)
        )

    def end(self, session: int) -> None:
        """The session is over: what it held goes back, and its consumers and own queues go."""
        self.take_back("session", session)
        for queue in list(self.queues.values()):
            if queue.owner == session:
                self.delete_queue(queue)
        for queue in list(self.queues.values()):
            for consumer in [consumer for consumer in queue.consumers if consumer.session == session]:
                self.remove_consumer(queue, consumer.id)
                self.touched.add(queue.id)  # another one may be the active consumer now
        self._write("DELETE FROM sessions WHERE id = ?", session)
        self.sessions.pop(session, None)

    def expired(self) -> list[int]:
        """Sessions whose lease has run out, or that are from before the machine was started."""
        return [
            row[0]
            for row in self.connection.execute(
                "SELECT id FROM sessions WHERE boot <> ? OR lease < ?", (self._boot, time.monotonic())
            )
        ]

    # -- housekeeping -------------------------------------------------------------------------------------

    def shrink(self) -> bool:
        """Give a few free pages back to the file system, if many are free; whether there are more."""
        (free,) = self.connection.execute("PRAGMA freelist_count").fetchone()
        (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
        if free < 4 * _PAGES_AT_ONCE or free * 4 < pages:
            return False
        give_back(self.connection, _PAGES_AT_ONCE)
        return True

    def in_place(self) -> bool:
        """Whether the file that is open is still the one at its path; others would open another one."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def suspend(self) -> None:
        """Close the file for a moment, between transactions."""
        self.connection.close()

    def resume(self) -> None:
        """Open it again; others may have changed it."""
        self.connection = _connect(self.path)
        _configure(self.connection, self._options)
        self._synchronous, self._seen_data = "", -1


def give_back(connection: sqlite3.Connection, pages: int) -> None:
    """Give so many free pages back to the file system, in a transaction of its own."""
    # The pragma frees a page with each step, and has no columns, for which `execute` makes one step only.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")


def _prepare(connection: sqlite3.Connection, options: Options) -> None:
    new = version_of(connection) == 0
    if new:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    _configure(connection, options)
    if new:
        migrate(connection)
    else:
        _check(connection)
        migrate(connection)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def _configure(connection: sqlite3.Connection, options: Options) -> None:
    """What SQLite does not keep in the file."""
    # The write-ahead log gives its room back after a burst.
    connection.execute(f"PRAGMA journal_size_limit = {16 * 2**20}").fetchall()
    if options.max_size is not None:
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA max_page_count = {options.max_size // page}").fetchall()


def _check(connection: sqlite3.Connection) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    if pages * page <= CHECKED_SIZE:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise FileDamaged(f"the file is damaged ({found.splitlines()[-1]}): {SAVE_WHAT_IS_LEFT}")
