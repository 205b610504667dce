"""The transport: a file and how it is used."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Self

from eventbus._errors import ConfigurationError
from eventbus.transport import Capabilities, LinkSettings, StatusListener

from ._links import SQLiteAsyncLink, SQLiteSyncLink
from ._options import Options, Synchronous, parse

_OLDEST = (3, 37, 0)  # STRICT tables


class SQLiteTransport:
    """A durable bus in one file, shared by the processes of one machine.

    ``SQLiteTransport("bus.db")`` or, by URL, ``sqlite:///bus.db``; see :class:`Options` for what the keywords mean. The
    file is made at the first start, readable by its owner only; SQLite keeps two more beside it (``-wal``, ``-shm``).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Synchronous = "FULL",
        lease: float = 30.0,
        disk_free_limit: int = 50 * 2**20,
        max_size: int | None = None,
    ) -> None:
        self._set(
            Path(path),
            Options(synchronous=synchronous, lease=lease, disk_free_limit=disk_free_limit, max_size=max_size),
        )

    def _set(self, path: Path, options: Options) -> None:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise ConfigurationError(f"this Python has SQLite {sqlite3.sqlite_version}; 3.37 or newer is needed")
        self.path = path.absolute()  # a program may change its folder later
        self.options = options

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``sqlite:///relative.db`` or ``sqlite:////absolute/path.db``; options as ``?synchronous=NORMAL&lease=10``."""
        made = cls.__new__(cls)
        made._set(*parse(url))
        return made

    @property
    def capabilities(self) -> Capabilities:
        """Everything but direct reply-to."""
        return Capabilities(durable=True, processes=True, schedules=True, counts_crashes=True)

    def sync_link(self, settings: LinkSettings, on_status: StatusListener) -> SQLiteSyncLink:
        """A new link for a bus of threads."""
        return SQLiteSyncLink(self.path, self.options, settings, on_status)

    def async_link(self, settings: LinkSettings, on_status: StatusListener) -> SQLiteAsyncLink:
        """A new link for a bus of the running event loop."""
        return SQLiteAsyncLink(self.path, self.options, settings, on_status)

    def __repr__(self) -> str:
        return f"SQLiteTransport({str(self.path)!r})"
