"""``eventbus outbox``: the relay as a process, the rest in this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus._cli.root import run_command
from eventbus.testing import eventually
from tests.outbox.collecting import Collector, Shop
from tests.outbox.places import Ordered, Place

APPS = """
import os
from eventbus import AsyncEventBus, EventBus
bus = EventBus(os.environ["EVENTBUS_URL"], service="app")
async_bus = AsyncEventBus(os.environ["EVENTBUS_URL"], service="app")

@bus.subscribe(pattern="#", name="not-served")
def handle(event):
    raise AssertionError("a relay serves nobody")
"""


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``eventbus outbox``; gives exit code, standard output and standard error."""
    for name in [name for name in os.environ if name.startswith("EVENTBUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_command(["outbox", *words])
        return code, *capsys.readouterr()

    return run


def started(folder: Path, broker: str, *words: str, **environment: str) -> subprocess.Popen[str]:
    """``eventbus outbox`` as a process, in a folder with a module ``apps``."""
    (folder / "apps.py").write_text(APPS)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS_")}
    return subprocess.Popen(
        [sys.executable, "-m", "eventbus", "outbox", *words],
        cwd=folder, env=clean | {"EVENTBUS_URL": broker} | environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def age(place: Place, seconds: float) -> None:
    with place.session() as session:
        session.execute(sqlalchemy.text("UPDATE eventbus_outbox SET created = created - :s"), {"s": seconds})


def set_aside(place: Place, id: int) -> None:
    with place.session() as session:
        sql = "UPDATE eventbus_outbox SET set_aside = 1, available = 1e18, attempts = 1, error = :e WHERE id = :id"
        session.execute(sqlalchemy.text(sql), {"id": id, "e": "MessageTooLarge: [red]big"})


def test_the_table_is_made_looked_at_and_mended(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    where = ("--database", place.url)
    assert run("create", *where) == (0, "", "")
    assert run("create", *where) == (0, "", ""), "there is one already"
    assert run("status", *where)[:2] == (0, "0 waiting; 0 set aside\n")
    shop = Shop(place)
    shop.add(*(Ordered("ada", number) for number in range(4)))
    age(place, 100)
    monkeypatch.setenv("EVENTBUS_DATABASE", place.url)
    code, out, _ = run("status", "--json")
    told = json.loads(out)
    assert (code, told["rows"], told["set_aside"]) == (0, 4, 0)
    assert 100 <= told["age"] < 1000
    assert run("status", "--max-age", "5000", *where)[0] == 0
    assert run("status", "--max-age", "50", *where)[0] == 1
    for id in (1, 2, 3):
        set_aside(place, id)
    assert run("status", "--max-age", "5000", *where)[0] == 1
    code, out, _ = run("failures", *where)
    assert code == 0
    assert "MessageTooLarge: [red]big" in out
    assert out.count("set aside") == 3
    rows = json.loads(run("failures", "--json", "--limit", "2", *where)[1])
    assert [row["id"] for row in rows] == [1, 2]
    assert run("retry", "1", *where)[:2] == (0, "1 will be tried again\n")
    assert run("discard", "2", "77", *where)[:2] == (1, "1 deleted\n"), "one of the two was not there"
    assert run("discard", "--all", *where)[:2] == (0, "1 deleted\n")
    assert run("discard", *where)[0] == 64
    assert run("discard", "1", "--all", *where)[0] == 64
    assert run("status", *where)[1].startswith("2 waiting, the oldest for 1")


def test_async_urls_do_for_looking_too(place: Place, run: Run) -> None:
    assert run("create", "--database", place.async_url)[0] == 0
    assert run("status", "--database", place.async_url)[1] == "0 waiting; 0 set aside\n"


def test_the_sql_of_the_table_can_be_printed(place: Place, run: Run) -> None:
    code, out, _ = run("create", "--print", "--database", place.url, "--table", "mine")
    assert code == 0
    with place.session() as session:
        for sql in out.split(";")[:-1]:
            session.execute(sqlalchemy.text(sql))
        assert session.execute(sqlalchemy.text("SELECT count(*) FROM mine")).scalar_one() == 0


@pytest.mark.parametrize("app", ["apps:bus", "apps:async_bus"])
def test_a_relay_runs_until_sigterm_and_ends_with_0(
    place: Place, broker: LocalBroker, tmp_path: Path, app: str
) -> None:
    shop = Shop(place)
    url = place.url if app == "apps:bus" else place.async_url
    secret = tmp_path / "database"
    secret.write_text(url + "\n")
    with Collector(broker.url, f"{place.kind}-{app[5:]}") as collector:
        process = started(tmp_path, broker.url, "relay", app, EVENTBUS_DATABASE_FILE=str(secret))
        try:
            shop.add(*(Ordered("ada", number) for number in range(10)))
            eventually(lambda: shop.rows() == 0, 60)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, err
        assert "outbox: relaying" in err
        assert "outbox: ended" in err
        eventually(lambda: collector.first_times() == {"ada": list(range(10))}, 30)


def test_mistakes_are_told_without_secrets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apps.py").write_text(APPS)
    monkeypatch.setenv("EVENTBUS_URL", "memory://none")
    expected: list[tuple[tuple[str, ...], int, str]] = [
        (("relay", "apps:bus"), 64, "EVENTBUS_DATABASE"),
        (("relay", "apps:bus", "apps:async_bus", "--database", "sqlite://"), 64, "one bus"),
        (("relay", "apps:bus", "--database", "sqlite+aiosqlite://"), 78, "for asyncio"),
        (("relay", "apps:async_bus", "--database", "sqlite://"), 78, "asyncio"),
        (("relay", "apps:bus", "--database", "sqlite://", "--lease", "3"), 78, "lease"),
        (("status", "--database", "nothing:secret@here"), 78, "not one of SQLAlchemy"),
        (("status", "--database", "mysql+nodriver://me:secret@here/x"), 78, "not one of SQLAlchemy"),
        (("status", "--database", "postgresql+psycopg://me:secret@127.0.0.1:1/x"), 1, "the database: "),
        (("status", "--database", "sqlite:///x.db", "--table", "a b"), 78, "table"),
    ]
    for words, code, text in expected:
        found: Any = run(*words)
        assert (found[0], text in found[2]) == (code, True), (words, found)
        assert "secret" not in found[1] + found[2]
        assert "Traceback" not in found[2]
