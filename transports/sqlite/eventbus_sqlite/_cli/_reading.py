"""Reading a bus file without changing anything about it, beside running buses or without any."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from eventbus._errors import AccessRefused, ConfigurationError, ConnectionFailed, EventBusError
from eventbus_sqlite._failures import FileDamaged, Meaning, in_our_words, meaning_of
from eventbus_sqlite._schema import version_of

T = TypeVar("T")

_PATIENCE = 5.0


def beside(path: Path, ending: str) -> Path:
    """One of the files that SQLite keeps beside another: ``-wal`` or ``-shm``."""
    return path.with_name(path.name + ending)


def check_file(path: Path) -> None:
    """Whether this is a file that can be read.

    The file is not opened for it: a process that closes a file loses its locks on it
    (https://www.sqlite.org/howtocorrupt.html, 2.2), and there may be a bus in this process.

    :raises ConfigurationError: there is none, or it is no file. :raises AccessRefused: this user may not read it.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ConfigurationError(f"there is no file {path}") from None
    except OSError as error:
        raise AccessRefused(f"{path} cannot be looked at: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise ConfigurationError(f"{path} is no file")
    if not os.access(path, os.R_OK):
        raise AccessRefused(f"{path} cannot be read by this user (its owner is {path.stat().st_uid})")


def read(path: Path, look: Callable[[sqlite3.Connection], T]) -> T:
    """What ``look`` finds, all of one moment. Nothing is written, and no file is left behind.

    :raises EventBusError: the file cannot be read; what is wrong with it.
    """
    check_file(path)
    path = path.resolve()
    with our_words(path):
        before = _state(path)
        if not beside(path, "-wal").exists():
            # Nobody has it open. A reader like any other would make -wal and -shm, and could not take them away again.
            try:
                found = _look(path, "immutable=1", look)
            except sqlite3.Error:
                if _state(path) == before:
                    raise
            else:
                if _state(path) == before:
                    return found
        return _look(path, "mode=ro", look)


def _state(path: Path) -> tuple[bool, int, int]:
    found = path.stat()
    return beside(path, "-wal").exists(), found.st_mtime_ns, found.st_size


def _look(path: Path, how: str, look: Callable[[sqlite3.Connection], T]) -> T:
    connection = sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, isolation_level=None, timeout=_PATIENCE)
    try:
        connection.execute("BEGIN")
        return look(connection)
    finally:
        connection.close()


@contextmanager
def our_words(path: Path) -> Iterator[None]:
    """SQLite's errors become ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _in_our_words(error, path) from error


def _in_our_words(error: sqlite3.Error, path: Path) -> EventBusError:
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary == sqlite3.SQLITE_NOTADB:
        return FileDamaged(f"{path} is no SQLite file, or its beginning is damaged")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return AccessRefused(
            f"{path} cannot be opened by this user ({error}): it takes the right to read it and its -wal and -shm files"
        )
    if meaning_of(error) is Meaning.BUSY:
        return ConnectionFailed(f"{path} is locked by another program")
    return in_our_words(error, path)


def schema_of(connection: sqlite3.Connection, path: Path) -> int:
    """The version of its tables.

    :raises ConfigurationError: there is no bus in the file, or one of a newer version.
    """
    try:
        version = version_of(connection)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    if version == 0:
        raise ConfigurationError(f"there is no bus in {path}: it is empty")
    return version
