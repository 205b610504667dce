"""What tests do to a bus file from outside, with a connection of their own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from eventbus_sqlite._options import Options
from eventbus_sqlite._store import Store
from eventbus_sqlite._waking import Waker


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, for SQL."""
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        yield connection


def end_all_sessions(path: Path) -> None:
    """Every link loses its session, as if its lease had run out."""
    store, waker = Store(path, Options()), Waker()
    try:
        while True:
            try:
                store.start(None, durable=False)
                break
            except sqlite3.OperationalError:
                pass
        addresses = [row.address for row in store.sessions.values()]
        for session in list(store.sessions):
            store.end(session)
        store.commit()
        waker.wake_others(addresses)
    finally:
        store.close()
        waker.close()
