"""Giving room back to the file system: in small steps beside running buses, or all at once when nobody is there."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

from eventbus._errors import ConnectionFailed
from eventbus_sqlite._cli._inspecting import facts, size_of
from eventbus_sqlite._cli._reading import beside, check_file, our_words, read, schema_of
from eventbus_sqlite._failures import Meaning, meaning_of
from eventbus_sqlite._places import check_place
from eventbus_sqlite._store import give_back

_PAGES = 256
_PAUSE = 0.002
_PATIENCE = 30.0
_TRIES = 5
_INCREMENTAL = 2


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the file and of its write-ahead log; ``free_size`` is that part of ``size`` which is not in use."""

    size: int
    wal_size: int
    free_size: int


class Vacuumed(msgspec.Struct, frozen=True, kw_only=True):
    """What a vacuum has brought. ``needs_full``: this file was not made by a bus, and gives room back only as a whole.

    ``wal_in_use``: somebody was reading, so that the write-ahead log kept its size.
    """

    file: str
    before: Sizes
    after: Sizes
    needs_full: bool = False
    wal_in_use: bool = False


def vacuum(path: Path) -> Vacuumed:
    """Give back what is free, in steps so small that buses go on meanwhile.

    :raises EventBusError: it is no bus file, may not be written, or is locked.
    """
    with _opened(path) as connection:
        before = _sizes(connection, path)
        # What is lost with the power is given back again: nobody has to wait for the disk.
        connection.execute("PRAGMA synchronous = NORMAL")
        needs_full = before.free_size > 0 and not _is_incremental(connection)
        if not needs_full:
            _give_back(connection)
        in_use = not _empty_log(connection)
        after = _sizes(connection, path)
    return Vacuumed(
        file=str(path), before=before, after=after, needs_full=needs_full, wal_in_use=in_use and after.wal_size > 0
    )


def vacuum_full(path: Path) -> Vacuumed:
    """Write the whole file anew, as small and as orderly as it can be.

    :raises ConnectionFailed: somebody has it open. :raises EventBusError: as :func:`vacuum`.
    """
    with _opened(path) as connection:
        before = _sizes(connection, path)
    with _opened(path) as connection:
        connection.execute("PRAGMA busy_timeout = 0")
        # Before anything is read: SQLite then takes the lock that everybody shares who has the file open.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        try:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if meaning_of(error) is not Meaning.BUSY:
                raise
            raise ConnectionFailed(f"{path} is in use{_by_whom(path)}: stop that, or leave --full out") from error
        connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        after = _sizes(connection, path)
    return Vacuumed(file=str(path), before=before, after=after)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, to be written; it exists, and has a bus in it."""
    check_file(path)
    check_place(path)
    with our_words(path):
        read(path, lambda reading: schema_of(reading, path))
        url = f"file:{quote(str(path.resolve()))}?mode=rw"
        connection = sqlite3.connect(url, uri=True, isolation_level=None, timeout=_PATIENCE)
        try:
            yield connection
        finally:
            connection.close()


def _sizes(connection: sqlite3.Connection, path: Path) -> Sizes:
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    real = path.resolve()
    return Sizes(size=size_of(real), wal_size=size_of(beside(real, "-wal")), free_size=free * page)


def _is_incremental(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA auto_vacuum").fetchone()[0] == _INCREMENTAL)


def _give_back(connection: sqlite3.Connection) -> None:
    free = _free(connection)
    while free:
        give_back(connection, _PAGES)
        before, free = free, _free(connection)
        if free >= before:  # buses make more room than we give back, or there is none that can be
            return
        time.sleep(_PAUSE)  # it is the others' turn


def _free(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])


def _empty_log(connection: sqlite3.Connection) -> bool:
    """Bring the write-ahead log into the file and cut it off; False when readers are in the way."""
    # While it waits for readers nobody can write, so it must not wait for long.
    connection.execute("PRAGMA busy_timeout = 100")
    for _ in range(_TRIES):
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not busy:
            return True
        time.sleep(0.05)
    return False


def _by_whom(path: Path) -> str:
    found = read(path, lambda connection: facts(connection, path))
    alive = [f"{session.service} (process {session.pid})" for session in found.sessions if session.alive is not False]
    return f" by {', '.join(alive)}" if alive else " by another program"
