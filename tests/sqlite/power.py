"""A disk whose power can be cut: everything that SQLite writes and syncs is recorded, below the transport as it is.

A VFS of our own is put in front of SQLite's (https://www.sqlite.org/vfs.html), by ctypes in the library that Python's
``sqlite3`` itself uses. From the record comes what a disk would have after a cut at any moment: what was synced, and of
the rest nothing, all (then only the processes have died), or any part, in sectors and in any order.
"""

from __future__ import annotations

import ctypes
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512

_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_CLOSE = CFUNCTYPE(c_int, c_void_p)
_WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


class _VFS(Structure):
    _fields_ = (
        ("iVersion", c_int), ("szOsFile", c_int), ("mxPathname", c_int), ("pNext", c_void_p), ("zName", c_char_p),
        ("pAppData", c_void_p), ("xOpen", c_void_p), ("xDelete", c_void_p), ("others", c_void_p * 14),
    )  # fmt: skip


class _Methods(Structure):
    _fields_ = (
        ("iVersion", c_int), ("xClose", c_void_p), ("xRead", c_void_p), ("xWrite", c_void_p), ("xTruncate", c_void_p),
        ("xSync", c_void_p), ("others", c_void_p * 13),
    )  # fmt: skip


class _File(Structure):
    _fields_ = (("pMethods", POINTER(_Methods)),)


@dataclass(frozen=True)
class Write:
    """Bytes of a file, at a place."""

    name: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    """A file gets shorter."""

    name: str
    size: int


@dataclass(frozen=True)
class Sync:
    """The disk has all of the file that was written before ``since`` (an index)."""

    name: str
    since: int


@dataclass(frozen=True)
class Delete:
    """A file goes."""

    name: str


@dataclass(frozen=True)
class Mark:
    """Something that the test has noted, such as a confirm."""

    kind: str
    id: str


Event = Write | Truncate | Sync | Delete | Mark


class Recorder:
    """All that happens to the files of a folder, in its order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.sync_fails = False
        """Whether syncs end with an error, as those of a failing disk."""
        self._library = ctypes.CDLL(_library_of_sqlite3())
        self._library.sqlite3_vfs_find.restype = c_void_p
        self._library.sqlite3_vfs_find.argtypes = [c_char_p]
        self._library.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
        self._names: dict[int, str] = {}
        self._keep: list[Any] = []  # for as long as SQLite may call it
        self._methods: dict[int, Any] = {}

    def note(self, kind: str, id: str) -> None:
        """Note something."""
        self.events.append(Mark(kind, id))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Everything that is opened meanwhile is recorded."""
        real = _VFS.from_address(self._library.sqlite3_vfs_find(None))
        ours = _VFS.from_buffer_copy(real)
        ours.zName, ours.pNext = b"power", None
        opens, deletes = _OPEN(self._open(real.xOpen)), _DELETE(self._delete(real.xDelete))
        ours.xOpen, ours.xDelete = (ctypes.cast(one, c_void_p) for one in (opens, deletes))
        _forever.append((self, ours, opens, deletes))
        self._library.sqlite3_vfs_register(ctypes.addressof(ours), 1)
        try:
            yield
        finally:
            self._library.sqlite3_vfs_register(ctypes.addressof(real), 1)
            self._library.sqlite3_vfs_unregister(ctypes.byref(ours))

    # -- the functions of the VFS -------------------------------------------------------------------------

    def _name(self, pointer: int | None) -> str | None:
        if pointer is None:
            return None
        path = Path(ctypes.string_at(pointer).decode())
        return path.name if path.parent == self.folder else None

    def _open(self, address: int) -> Any:
        real = _OPEN(address)

        def xopen(vfs: int, name: int | None, file: int, flags: int, out: int) -> int:
            result = int(real(vfs, name, file, flags, out))
            known = self._name(name)
            if result == 0 and known is not None:
                self._names[file] = known
                opened = _File.from_address(file)
                opened.pMethods = ctypes.pointer(self._methods_like(opened.pMethods))
            return result

        return xopen

    def _delete(self, address: int) -> Any:
        real = _DELETE(address)

        def xdelete(vfs: int, name: int | None, sync: int) -> int:
            result = int(real(vfs, name, sync))
            known = self._name(name)
            if result == 0 and known is not None:
                self.events.append(Delete(known))
            return result

        return xdelete

    def _methods_like(self, given: Any) -> Any:
        address = ctypes.addressof(given.contents)
        if address in self._methods:
            return self._methods[address]
        real, ours = given.contents, _Methods.from_buffer_copy(given.contents)
        close, write = _CLOSE(real.xClose), _WRITE(real.xWrite)
        truncate, sync = _TRUNCATE(real.xTruncate), _SYNC(real.xSync)

        def xclose(file: int) -> int:
            self._names.pop(file, None)
            return int(close(file))

        def xwrite(file: int, data: int, size: int, offset: int) -> int:
            # Noted before it is done: a sync that another thread begins meanwhile may or may not have it.
            self.events.append(Write(self._names[file], offset, ctypes.string_at(data, size)))
            return int(write(file, data, size, offset))

        def xtruncate(file: int, size: int) -> int:
            self.events.append(Truncate(self._names[file], size))
            return int(truncate(file, size))

        def xsync(file: int, flags: int) -> int:
            if self.sync_fails:
                return sqlite3.SQLITE_IOERR_FSYNC
            since = len(self.events)
            result = int(sync(file, flags))
            self.events.append(Sync(self._names[file], since))
            return result

        made = (_CLOSE(xclose), _WRITE(xwrite), _TRUNCATE(xtruncate), _SYNC(xsync))
        ours.xClose, ours.xWrite, ours.xTruncate, ours.xSync = (ctypes.cast(one, c_void_p) for one in made)
        _forever.append((ours, made))
        self._methods[address] = self._methods[ctypes.addressof(ours)] = ours
        return ours


_forever: list[Any] = []


def _library_of_sqlite3() -> str:
    """A handle of Python's own module finds the functions of the very library that it uses."""
    import _sqlite3

    return str(_sqlite3.__file__)


@dataclass
class Disk:
    """What is on the disk: what was synced for sure, and what was only written."""

    synced: dict[str, bytearray] = field(default_factory=dict)
    written: list[tuple[int, Write | Truncate]] = field(default_factory=list)

    def take(self, index: int, event: Event) -> None:
        """One more event."""
        if isinstance(event, (Write, Truncate)):
            self.written.append((index, event))
        elif isinstance(event, Delete):  # SQLite deletes a journal only when what it guards is on the disk
            self.synced.pop(event.name, None)
            self.written = [(i, one) for i, one in self.written if one.name != event.name]
        elif isinstance(event, Sync):
            self.synced.setdefault(event.name, bytearray())
            for i, one in self.written:
                if one.name == event.name and i < event.since:
                    _apply(self.synced, one)
            self.written = [(i, one) for i, one in self.written if one.name != event.name or i >= event.since]

    def after_cut(self, kept: float, chance: random.Random) -> dict[str, bytearray]:
        """The files after a loss of power: of each sector that was only written, the disk has ``kept`` (0 to 1)."""
        files = {name: bytearray(data) for name, data in self.synced.items()}
        for _, one in self.written if kept > 0 else ():
            for part in [one] if kept >= 1 else _parts(one):
                if chance.random() < kept:
                    _apply(files, part)
        return files


def _parts(event: Write | Truncate) -> list[Write | Truncate]:
    if isinstance(event, Truncate):
        return [event]
    ends = [*range(SECTOR - event.offset % SECTOR, len(event.data), SECTOR), len(event.data)]
    begins = [0, *ends[:-1]]
    return [
        Write(event.name, event.offset + begin, event.data[begin:end]) for begin, end in zip(begins, ends, strict=True)
    ]


def _apply(files: dict[str, bytearray], event: Write | Truncate) -> None:
    data = files.setdefault(event.name, bytearray())
    if isinstance(event, Truncate):
        del data[event.size :]
        return
    if len(data) < event.offset:
        data.extend(bytes(event.offset - len(data)))
    data[event.offset : event.offset + len(event.data)] = event.data


@contextmanager
def with_small_log(pages: int) -> Iterator[None]:
    """Connections that move the write-ahead log into the file after so many pages, so that this happens often."""
    real = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = real(*arguments, **options)
        connection.execute(f"PRAGMA wal_autocheckpoint = {pages}").fetchall()
        return connection

    vars(sqlite3)["connect"] = connect
    try:
        yield
    finally:
        vars(sqlite3)["connect"] = real
