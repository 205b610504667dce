"""Versions of the schema: a newer one is refused, a step that was killed half-way is done again, two take turns."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from eventbus_sqlite import _schema
from eventbus_sqlite._schema import VERSION, migrate, version_of

from tests.sqlite.asking import ask
from tests.sqlite.files import opened

NEXT = """
ALTER TABLE sessions ADD COLUMN host TEXT;
-- As a real step might: something is added, and something is rewritten.
CREATE TABLE migrated (times INTEGER NOT NULL) STRICT;
INSERT INTO migrated VALUES (1);
CREATE INDEX held_session ON held (session);
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    assert ask("sync", f"sqlite:///{tmp_path}/bus.db") == ("", "")
    return tmp_path / "bus.db"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_newer_version_is_refused(kind: str, file: Path) -> None:
    with opened(file) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    name, said = ask(kind, f"sqlite:///{file}")
    assert name == "ConfigurationError"
    assert f"schema version {VERSION + 1}" in said
    assert "install a newer one" in said
    assert str(file) in said


DYING = """
import os, signal, sqlite3, sys
from eventbus_sqlite import _schema
_schema.MIGRATIONS = (*_schema.MIGRATIONS, {next!r})
_schema.VERSION = len(_schema.MIGRATIONS)
class Dying(sqlite3.Connection):
    left = int(sys.argv[2])
    def execute(self, statement, *more):
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        Dying.left = self.left - 1
        return super().execute(statement, *more)
_schema.migrate(sqlite3.connect(sys.argv[1], isolation_level=None, factory=Dying))
"""


def killed_after(file: Path, statements: int) -> bool:
    """Migrate in a process that dies after so many statements; whether it has died."""
    words = [sys.executable, "-c", DYING.format(next=NEXT), str(file), str(statements)]
    ended = subprocess.run(words, timeout=60)
    assert ended.returncode in (0, -signal.SIGKILL)
    return ended.returncode != 0


@pytest.mark.parametrize("new", [True, False], ids=["a new file", "a file of an older version"])
def test_a_migration_that_was_killed_at_any_statement_is_done_again(
    new: bool, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new.db" if new else file
    # Spread over the whole: each process takes a moment to start.
    deaths = [n for n in ((2, 5, 9, 14, 21, 24, 27) if new else (2, 5, 8, 10, 11)) if killed_after(path, n)]
    assert len(deaths) >= 3
    monkeypatch.setattr(_schema, "MIGRATIONS", (*_schema.MIGRATIONS, NEXT))
    monkeypatch.setattr(_schema, "VERSION", VERSION + 1)
    with opened(path) as connection:
        assert version_of(connection) <= VERSION + 1
        migrate(connection)
        assert version_of(connection) == VERSION + 1
        assert connection.execute("SELECT times FROM migrated").fetchall() == [(1,)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


BOTH = """
import sqlite3, sys, time
from eventbus_sqlite import _schema
_schema.MIGRATIONS = (*_schema.MIGRATIONS, {next!r})
_schema.VERSION = len(_schema.MIGRATIONS)
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
print("ready", flush=True)
sys.stdin.readline()
_schema.migrate(connection)
print(_schema.version_of(connection), flush=True)
"""


def test_of_two_that_migrate_at_once_one_does_it(file: Path) -> None:
    words = [sys.executable, "-c", BOTH.format(next=NEXT), str(file)]
    both = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=30)[0] for process in both] == [f"{VERSION + 1}\n"] * 2
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM migrated").fetchall() == [(1,)]


def test_who_looks_while_another_makes_the_tables_sees_a_file_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as looking:
        looking.execute("PRAGMA journal_mode = WAL").fetchall()
        made = False

        def make_after_the_first_look(statement: str) -> None:
            nonlocal made
            if "user_version" in statement and not made:
                made = True
                with closing(sqlite3.connect(path, isolation_level=None)) as making:
                    migrate(making)

        looking.set_trace_callback(make_after_the_first_look)
        assert version_of(looking) == 0
        assert made
        assert version_of(looking) == VERSION
