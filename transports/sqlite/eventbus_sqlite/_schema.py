"""The tables of a bus file, their version, and how a file of an older version becomes one of this."""

from __future__ import annotations

import sqlite3

from eventbus._errors import ConfigurationError

APPLICATION_ID = 0x45764275
"""``EvBu``: what https://www.sqlite.org/pragma.html#pragma_application_id is for."""

_FIRST = """
-- One row. ``topology`` changes with everything that processes keep in memory: the five tables after this one.
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), topology INTEGER NOT NULL) STRICT;
INSERT INTO state VALUES (1, 1);
CREATE TABLE exchanges (name TEXT PRIMARY KEY, declared BLOB NOT NULL) STRICT, WITHOUT ROWID;
-- ``owner`` is the session that an exclusive queue dies with; ``used`` (Unix seconds) is when it was last in use.
CREATE TABLE queues (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, properties BLOB NOT NULL, owner INTEGER,
    used REAL NOT NULL
) STRICT;
CREATE TABLE bindings (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, queue INTEGER, exchange TEXT, pattern TEXT NOT NULL,
    arguments BLOB NOT NULL
) STRICT;
-- A link of a process. ``lease`` is the end of its lease on the clock of ``boot``; ``address`` wakes it.
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL, pid INTEGER NOT NULL, address TEXT NOT NULL,
    place TEXT NOT NULL, boot TEXT NOT NULL, lease REAL NOT NULL
) STRICT;
CREATE TABLE consumers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL, name TEXT NOT NULL, queue INTEGER NOT NULL
) STRICT;
-- One row for each queue that has it, so that it lies in one of the three tables below. The order of ids is that of
-- publishing: a new id is above all that exist.
CREATE TABLE messages (id INTEGER PRIMARY KEY, attributes BLOB NOT NULL, body BLOB NOT NULL) STRICT;
-- In the order of delivery. ``rank`` is the negative priority, ``deliveries`` counts those that came back.
CREATE TABLE ready (
    queue INTEGER NOT NULL, rank INTEGER NOT NULL, message INTEGER NOT NULL, expires REAL, deliveries INTEGER NOT NULL,
    PRIMARY KEY (queue, rank, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX ready_expires ON ready (expires) WHERE expires IS NOT NULL;
-- At a consumer. The id is the fencing token: never used again, so that it settles this one delivery only.
-- ``due`` is set for what was looked at while it waited for its time, and goes back to ``scheduled``.
CREATE TABLE held (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL, consumer INTEGER NOT NULL, queue INTEGER,
    rank INTEGER NOT NULL, message INTEGER NOT NULL, expires REAL, deliveries INTEGER NOT NULL, due REAL
) STRICT;
-- Waits for its time, in Unix seconds: to go to its queue, or (without one) to be routed.
CREATE TABLE scheduled (due REAL NOT NULL, message INTEGER NOT NULL, queue INTEGER, PRIMARY KEY (due, message))
    STRICT, WITHOUT ROWID;
CREATE INDEX scheduled_queue ON scheduled (queue, due);
"""

MIGRATIONS = (_FIRST,)
"""Step n makes version n + 1 of version n; version 0 is an empty file."""

VERSION = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version of the file.

    :raises ConfigurationError: it is another program's database, or a newer version's.
    """
    # In one transaction, so that it is one state of the file: another process may be making its tables.
    own = not connection.in_transaction
    if own:
        connection.execute("BEGIN")
    try:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        if own and connection.in_transaction:
            connection.execute("ROLLBACK")
    if application == APPLICATION_ID:
        if version > VERSION:
            raise ConfigurationError(
                f"the file has schema version {version}, and this eventbus-sqlite knows {VERSION}: install a newer one"
            )
        return version
    if application or version or tables:
        raise ConfigurationError("the file is the database of another program: give the bus a file of its own")
    return 0


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this version, each step in a transaction; nothing happens to a file that is there already.

    Processes with an older version of this library refuse the file afterwards.
    """
    while version_of(connection) < VERSION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = version_of(connection)  # again: another process may have been faster
            if version < VERSION:
                for statement in _statements(MIGRATIONS[version]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _statements(script: str) -> list[str]:
    """The statements of a script; executescript would commit in between."""
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    return [statement for statement in map(str.strip, "\n".join(lines).split(";")) if statement]
