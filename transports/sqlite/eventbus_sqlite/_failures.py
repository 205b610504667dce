"""What SQLite's errors mean for a bus, in our words: https://www.sqlite.org/rescode.html."""

from __future__ import annotations

import enum
import sqlite3
from pathlib import Path

from eventbus._errors import AccessRefused, ConfigurationError, ConnectionFailed, EventBusError

SAVE_WHAT_IS_LEFT = (
    "look with `eventbus sqlite check`, then restore a copy, or save what can be read with its option --save, "
    "or delete the file with its -wal and -shm files"
)


class FileDamaged(ConfigurationError):
    """The file is no bus file any more: pages are damaged, or it is something else."""


class Meaning(enum.Enum):
    """What is to be done about an error."""

    BUSY = enum.auto()
    """Somebody else has the file locked: try again."""
    FULL = enum.auto()
    """No room for more: what needs no room may still go."""
    LOST = enum.auto()
    """Open the file again, after a while."""
    FATAL = enum.auto()
    """Trying again does not mend it."""


_WRITE_FAILED = sqlite3.SQLITE_IOERR_WRITE


def meaning_of(error: sqlite3.Error) -> Meaning:
    """What is to be done about it."""
    code = getattr(error, "sqlite_errorcode", 0)
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return Meaning.BUSY
    if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_TOOBIG) or code == _WRITE_FAILED:
        return Meaning.FULL
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return Meaning.FATAL
    return Meaning.LOST


def in_our_words(error: sqlite3.Error, path: Path) -> EventBusError:
    """The error that users see; SQLite's is its cause."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    ours: EventBusError
    if primary == sqlite3.SQLITE_NOTADB:
        # Perhaps something else of value: no advice to delete it.
        ours = FileDamaged(
            f"{path} is no SQLite file ({error}): give the bus a file of its own, or restore a copy if this was one"
        )
    elif primary == sqlite3.SQLITE_CORRUPT:
        ours = FileDamaged(f"{path} is damaged ({error}): {SAVE_WHAT_IS_LEFT}")
    elif primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        ours = AccessRefused(f"{path} cannot be written ({error}): the user of this process needs write permission")
    elif primary == sqlite3.SQLITE_CANTOPEN:
        ours = ConnectionFailed(f"{path} cannot be opened ({error})")
    elif meaning_of(error) is Meaning.BUSY:
        ours = ConnectionFailed(f"{path} is locked by another program ({error})")
    elif meaning_of(error) is Meaning.FULL:
        ours = ConnectionFailed(f"there is no room for {path} on the disk, or it has reached its max_size ({error})")
    else:
        ours = ConnectionFailed(f"{path}: {error}")
    ours.__cause__ = error
    return ours
