"""What a link does for its file now and then: free pages go back to the disk, and the write-ahead log stays short."""

from __future__ import annotations

import logging
import os
import sqlite3

from ._store import Store

log = logging.getLogger("eventbus.sqlite")

LONG = 64 * 2**20
"""A write-ahead log of more bytes than this is moved into the file by us, if nobody keeps us from it."""

_PATIENCE = 5
"""Looks, a second apart, that find the log held back before anybody is told: a burst is over by then."""


class Upkeep:
    """Remembers how long the log has been held back. SQLite moves it into the file by itself, but never past what a
    reader still sees (https://www.sqlite.org/wal.html#ckpt): with a reader that does not end, it grows and grows."""

    def __init__(self) -> None:
        self._held_back = 0

    def look(self, store: Store) -> None:
        """Do a little of what there is to do."""
        try:
            store.shrink()
            self._shorten(store)
        except sqlite3.Error as error:  # another one is at work: next time
            log.debug("nothing was done for %s: %s", store.path, error)

    def _shorten(self, store: Store) -> None:
        try:
            size = os.stat(f"{store.path}-wal").st_size
        except OSError:
            size = 0
        if size <= LONG:
            self._over(store)
            return
        _, pages, moved = store.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if moved >= pages:
            store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._over(store)
            return
        self._held_back += 1
        if self._held_back == _PATIENCE:
            log.warning(
                "%s-wal has %d MB and grows: some program has been reading the file for long, in one transaction, and "
                "what was written since stays in the log until it ends",
                store.path,
                size // 2**20,
            )

    def _over(self, store: Store) -> None:
        if self._held_back >= _PATIENCE:
            log.info("%s-wal is short again", store.path)
        self._held_back = 0
