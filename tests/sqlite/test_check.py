"""``eventbus sqlite check``: what it finds, and what --repair puts right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eventbus_sqlite import _schema
from eventbus_sqlite._cli import _repairing

from eventbus import EventBus
from eventbus.testing import eventually
from tests.sqlite.commands import QUEUE, Commands, Written, make_file, office
from tests.sqlite.files import opened


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    return Commands(capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Messages 1, 2 and 3 in the group's queue."""
    path = tmp_path / "bus.db"
    make_file(path, 1, 2, 3)
    return path


def check(run: Commands, file: Path, *options: str) -> tuple[int, dict[str, Any]]:
    code, out, err = run("check", file, "--json", *options)
    assert err == ""
    return code, json.loads(out)


def kinds(found: list[dict[str, Any]]) -> dict[str, int]:
    return {finding["kind"]: finding["count"] for finding in found}


def test_nothing_is_wrong_with_a_file_that_is_in_use(run: Commands, file: Path) -> None:
    with office(file) as mail:
        mail.write(-1, 4)
        mail.bus.publish(Written(5), delay=60)
        for options in ([], ["--quick"], ["--repair"]):
            assert check(run, file, *options) == (
                0,
                {"file": str(file), "ok": True, "found": [], "left": [], "saved": None},
            )
        assert run("check", file)[:2] == (0, f"{file}: nothing is wrong\n")


ONE = f"(SELECT id FROM queues WHERE name = '{QUEUE}')"

WRONG: dict[str, tuple[str, dict[str, int], dict[str, int]]] = {
    "held by a session that is no more": (
        "INSERT INTO held (session, consumer, queue, rank, message, expires, deliveries) "
        f"SELECT 99, 1, queue, rank, message, expires, 0 FROM ready WHERE queue = {ONE} LIMIT 2;"
        "DELETE FROM ready WHERE message IN (SELECT message FROM held)",
        {"held-without-session": 2},
        {},
    ),
    "scheduled, and looked at by a session that is no more": (
        f"INSERT INTO held (session, consumer, queue, rank, message, deliveries, due) "
        f"SELECT 99, -1, queue, 0, message, 0, 9e9 FROM ready WHERE queue = {ONE} LIMIT 1;"
        "DELETE FROM ready WHERE message IN (SELECT message FROM held)",
        {"held-without-session": 1},
        {},
    ),
    "messages in no queue": (f"DELETE FROM ready WHERE queue = {ONE}", {"messages-in-no-queue": 3}, {}),
    "a message in two places": (
        f"INSERT INTO ready SELECT queue, -1, message, NULL, 0 FROM ready WHERE queue = {ONE} LIMIT 1",
        {"messages-in-two-places": 1},
        {"messages-in-two-places": 1},
    ),
    "places without messages": (
        f"DELETE FROM messages WHERE id IN (SELECT message FROM ready WHERE queue = {ONE} LIMIT 2)",
        {"places-without-message": 2},
        {},
    ),
    "a queue that is missing": (
        f"DELETE FROM bindings; DELETE FROM queues WHERE name = '{QUEUE}'",
        {"queues-missing": 1},
        {},
    ),
    "consumers of nobody": (
        f"INSERT INTO consumers (session, name, queue) VALUES (99, 'x', {ONE}), (98, 'y', 97)",
        {"consumers-stray": 2},
        {},
    ),
    "bindings to nothing": (
        "INSERT INTO bindings (source, queue, exchange, pattern, arguments) VALUES "
        f"('gone', {ONE}, NULL, '#', x'80'), ('amq.topic', 99, NULL, '#', x'80'), "
        f"('amq.topic', NULL, 'gone', '', x'80'), ('amq.topic', {ONE}, NULL, '#', x'80'), "
        "('eventbus.events', NULL, 'amq.fanout', '#', x'80')",
        {"bindings-stray": 3},
        {},
    ),
    "an exclusive queue of nobody": (
        f"UPDATE queues SET owner = 99 WHERE name = '{QUEUE}'",
        {"queues-ownerless": 1},
        {},
    ),
    "a table of one row that has none": ("DELETE FROM state", {"state": 1}, {"state": 1}),
    "a queue that cannot be read": (
        f"UPDATE queues SET properties = x'c1' WHERE name = '{QUEUE}'",
        {"queues-unreadable": 1},
        {"queues-unreadable": 1},
    ),
    "messages that cannot be read": (
        f"UPDATE messages SET attributes = x'90' WHERE id IN (SELECT message FROM ready WHERE queue = {ONE})",
        {"messages-unreadable": 3},
        {"messages-unreadable": 3},
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_found_and_put_right_where_that_is_safe(run: Commands, file: Path, what: str) -> None:
    break_it, expected, left = WRONG[what]
    with opened(file) as connection:
        connection.executescript(break_it)
    code, found = check(run, file)
    assert (code, found["ok"], kinds(found["found"])) == (1, False, expected)
    code, out, _ = run("check", file)
    assert code == 1
    assert ("--repair puts right" in out) == (not left)

    code, found = check(run, file, "--repair")
    assert kinds(found["found"]) == expected
    assert (code, kinds(found["left"])) == (1 if left else 0, left)
    if not left:
        assert check(run, file)[0] == 0


@pytest.mark.parametrize("what", ["held by a session that is no more", "consumers of nobody", "bindings to nothing"])
def test_messages_are_handled_after_a_repair_beside_a_running_bus(run: Commands, file: Path, what: str) -> None:
    with EventBus(f"sqlite:///{file}", service="writer"):
        with opened(file) as connection:
            connection.executescript(WRONG[what][0])
        code, out, _ = run("check", file, "--repair")
        assert code == 0
        assert "put right: " in out
    with office(file) as mail:
        mail.go_on.set()
        mail.wait_handled(1, 2, 3)


@pytest.mark.parametrize(
    ("what", "queue"), [("messages in no queue", "recovered"), ("a queue that is missing", "recovered.2")]
)
def test_messages_that_belong_nowhere_are_in_a_queue_after_a_repair(
    run: Commands, file: Path, what: str, queue: str
) -> None:
    with opened(file) as connection:
        assert connection.execute(f"SELECT {ONE}").fetchone() == (2,)
        connection.executescript(WRONG[what][0])
    assert run("check", file, "--repair")[0] == 0
    handled = []
    with EventBus(f"sqlite:///{file}", service="mender") as bus:

        @bus.subscribe(Written, queue=queue, exchange="")
        def handle(written: Written) -> None:
            handled.append(written.number)

        eventually(lambda: sorted(handled) == [1, 2, 3], what=f"handling what is in {queue}")


def test_what_comes_back_counts_as_delivered_once(run: Commands, file: Path) -> None:
    with opened(file) as connection:
        connection.executescript(WRONG["held by a session that is no more"][0])
        assert run("check", file, "--repair")[0] == 0
        ready = f"SELECT deliveries FROM ready WHERE queue = {ONE} ORDER BY message"
        assert connection.execute(ready).fetchall() == [(1,), (1,), (0,)]


def test_a_file_of_an_older_schema_version_is_not_repaired(
    run: Commands, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(file) as connection:
        connection.executescript(WRONG["consumers of nobody"][0])
    for module in (_repairing, _schema):
        monkeypatch.setattr(module, "VERSION", 2)
    assert check(run, file)[0] == 1
    code, _, err = run("check", file, "--repair")
    assert code == 78
    assert "older schema version" in err
    assert check(run, file)[0] == 1


def _damage(file: Path, *, page: int, at: int, what: bytes) -> None:
    with open(file, "r+b") as pages:  # nobody has it open
        pages.seek((page - 1) * 4096 + at)
        pages.write(what)


def _roots(file: Path) -> dict[str, int]:
    """The first pages of tables, with all that is written in the file itself."""
    with opened(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage").fetchall())


def test_damaged_pages_are_found_and_what_is_on_others_is_saved(run: Commands, file: Path, tmp_path: Path) -> None:
    with opened(file) as connection:
        connection.executescript(WRONG["held by a session that is no more"][0])
    roots = _roots(file)
    for table in ("sessions", "queues"):
        _damage(file, page=roots[table], at=0, what=b"\xff" * 100)
    before = file.read_bytes()
    for options in ([], ["--quick"], ["--repair"]):
        code, found = check(run, file, *options)
        assert code == 1
        assert {finding["kind"] for finding in found["left"]} == {"damaged"}
    code, out, err = run("check", file)
    assert (code, err) == (1, "")
    assert f"eventbus sqlite check {file} --save NEW" in out

    saved = tmp_path / "saved.db"
    code, out, err = run("check", file, "--save", saved)
    assert (code, err) == (1, "")
    assert f"{saved}: saved 4 messages in 2 queues; in part only: queues\n" in out
    assert (saved.stat().st_mode & 0o777, file.read_bytes() == before) == (0o600, True)
    assert check(run, saved)[0] == 0
    with opened(saved) as connection:
        queues = connection.execute("SELECT name, count(*) FROM ready JOIN queues ON id = queue GROUP BY id").fetchall()
    assert queues == [("recovered.1", 1), ("recovered.2", 3)], "their names are lost, and nothing else"


def test_rows_before_and_behind_the_damage_are_saved(run: Commands, file: Path, tmp_path: Path) -> None:
    with EventBus(f"sqlite:///{file}", service="writer") as bus:
        for number in range(4, 10):
            bus.publish(Written(number, "x" * 3000), mandatory=True)  # one a page
    _roots(file)
    page = file.read_bytes().index(b'"number":6') // 4096 + 1
    _damage(file, page=page, at=0, what=b"\xff" * 100)
    code, out, _ = run("check", file, "--save", "saved.db")
    assert code == 1
    assert "in part only: messages\n" in out
    saved = tmp_path / "saved.db"
    assert check(run, saved)[0] == 0
    with office(saved) as mail:
        mail.go_on.set()
        mail.wait_handled(1, 2, 3, 4, 5, 7, 8, 9)


def test_a_file_is_saved_into_a_new_one_only(run: Commands, file: Path) -> None:
    code, _, err = run("check", file, "--save", file)
    assert (code, err) == (78, f"error: there is a file {file} already\n")
    assert run("check", file, "--save", "x.db", "--repair")[0] == 64


def test_an_index_that_differs_from_its_table_is_found_by_the_whole_check(run: Commands, file: Path) -> None:
    with opened(file) as connection:
        # As a page of the index that was not written.
        connection.execute("UPDATE ready SET expires = 9e9")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'IS NOT NULL', 'IS NULL') WHERE type = 'index'")
    assert check(run, file, "--quick")[0] == 0
    code, found = check(run, file)
    assert code == 1
    assert "ready_expires" in found["left"][0]["text"]


def test_a_check_does_not_stop_buses_from_publishing(run: Commands, file: Path) -> None:
    with EventBus(f"sqlite:///{file}", service="writer") as bus, opened(file) as checking:
        checking.execute("BEGIN")
        checking.execute("SELECT count(*) FROM messages").fetchone()
        bus.publish(Written(4), mandatory=True, timeout=5)
        assert check(run, file)[0] == 0
        checking.execute("COMMIT")
    assert eventually(lambda: check(run, file)[0] == 0)
