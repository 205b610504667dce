"""What a link does for its file by itself."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from eventbus_sqlite._options import Options
from eventbus_sqlite._store import Store


def test_free_pages_are_given_back_many_at_a_time(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "bus.db", Options())) as store:
        run = store.connection.execute
        for number in range(8):
            run("INSERT INTO messages VALUES (?, x'', zeroblob(1048576))", (number,))
        assert not store.shrink(), "nothing is free"
        run("DELETE FROM messages")
        (free,) = run("PRAGMA freelist_count").fetchone()
        assert store.shrink()
        assert run("PRAGMA freelist_count").fetchone()[0] == free - 256
        while store.shrink():
            pass
        assert run("PRAGMA page_count").fetchone()[0] < 1500
