"""``eventbus sqlite info`` and ``vacuum``."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eventbus_sqlite import _schema
from eventbus_sqlite._attributes import decode, encode
from eventbus_sqlite._cli import _inspecting, _reading, _shrinking
from eventbus_sqlite._places import boot_id, network_place

from eventbus import EventBus, Unroutable
from eventbus._cli.root import run_command
from eventbus.testing import eventually
from tests.sqlite.commands import QUEUE, Commands, Written, another_user, make_file, office
from tests.sqlite.files import opened


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    for name in [name for name in os.environ if name.startswith("EVENTBUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    return Commands(capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bus.db"


def info(run: Commands, file: Path | str) -> dict[str, Any]:
    code, out, err = run("info", file, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def seen(file: Path) -> dict[str, tuple[int, int, int]]:
    """The file and those beside it."""
    found = {path.name: path.stat() for path in file.parent.glob(file.name + "*")}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


# -- info -------------------------------------------------------------------------------------------------


def test_info_says_what_waits_at_whom_beside_a_running_bus(run: Commands, file: Path) -> None:
    with office(file) as mail:
        mail.write(-1, 1, 2, 3, 4, 5)
        mail.bus.publish(Written(6), delay=60)

        def counted() -> Any:
            (queue, dead) = info(run, file)["queues"]
            return queue["held"] == 3 and dead["ready"] == 1

        eventually(counted, what="holding three")
        found = info(run, file)
        queue, dead = found["queues"]
        for seconds in (queue.pop("lag"), queue.pop("oldest_held"), dead.pop("lag")):
            assert 0 <= seconds < 60
        assert queue == {
            "name": QUEUE, "ready": 2, "held": 3, "scheduled": 0, "dead_letters": 1, "consumers": 1,
            "services": ["mail"],
        }  # fmt: skip
        assert dead == {
            "name": f"{QUEUE}.dead", "ready": 1, "held": 0, "scheduled": 0, "dead_letters": None, "consumers": 0,
            "services": [], "oldest_held": None,
        }  # fmt: skip
        (session,) = found["sessions"]
        assert 0 < session.pop("lease") <= 30
        assert session == {
            "id": 1, "service": "mail", "pid": os.getpid(), "alive": True, "consumers": 1, "held": 3,
        }  # fmt: skip
        assert {name: found[name] for name in ("schema", "newest_schema", "ready", "held", "scheduled")} == {
            "schema": 1, "newest_schema": 1, "ready": 3, "held": 3, "scheduled": 1,
        }  # fmt: skip
        assert (found["exchanges"], found["bindings"], found["to_be_routed"]) == (1, 1, 1)
        assert found["wal_size"] == Path(f"{file}-wal").stat().st_size > 0

        code, out, err = run("info", file)
        assert (code, err) == (0, "")
        assert f"{QUEUE}.dead" in out
        assert "1 (mail)" in out
        assert "open" in out
        assert "3 ready, 3 held, 1 scheduled (1 of them for an exchange)" in out


def test_info_leaves_a_file_as_it_is_that_nobody_has_open(run: Commands, file: Path) -> None:
    make_file(file, 1, 2)
    before = seen(file)
    assert list(before) == ["bus.db"]
    found = info(run, f"sqlite:///{file}")
    assert (found["ready"], found["sessions"], found["wal_size"]) == (3, [], 0)
    assert run("info", file)[0] == 0
    assert run("check", file)[0] == 0
    assert seen(file) == before


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_info_sees_what_only_the_log_of_a_process_that_died_has(run: Commands, file: Path) -> None:
    make_file(file)
    child = os.fork()
    if not child:  # no bus runs: it has no thread, and it ends without closing anything
        with opened(file) as connection:
            connection.execute("INSERT INTO scheduled SELECT 9e9, message, queue FROM ready")
            os._exit(0)
    os.waitpid(child, 0)
    assert Path(f"{file}-wal").stat().st_size > 0
    assert info(run, file)["scheduled"] == 1


def test_info_says_which_links_are_of_dead_processes(run: Commands, file: Path) -> None:
    make_file(file)
    insert = (
        "INSERT INTO sessions (service, pid, address, place, boot, lease) VALUES (?, 7, '@eventbus-nobody', ?, ?, ?)"
    )
    with opened(file) as connection:
        connection.execute(insert, ("here", network_place(), boot_id(), time.monotonic() + 20))
        connection.execute(insert, ("elsewhere", "net:[1]", boot_id(), time.monotonic() + 20))
        connection.execute(insert, ("before", network_place(), "another boot", 1.0))
    sessions = {each["service"]: (each["alive"], each["lease"] is not None) for each in info(run, file)["sessions"]}
    assert sessions == {"here": (False, True), "elsewhere": (None, True), "before": (False, False)}
    out = run("info", file)[1]
    assert out.count("dead ") >= 2
    assert "elsewhere" in out


def test_info_takes_the_lag_of_a_queue_with_priorities_from_the_message_whose_turn_is_next(
    run: Commands, file: Path
) -> None:
    make_file(file, 1, 2)
    with opened(file) as connection:
        (queue,) = connection.execute("SELECT id FROM queues WHERE name = ?", (QUEUE,)).fetchone()
        first, second = connection.execute("SELECT message FROM ready WHERE queue = ?", (queue,)).fetchall()
        (attributes,) = connection.execute("SELECT attributes FROM messages WHERE id = ?", first).fetchone()
        message = decode(attributes, b"")
        older = encode(msgspec.structs.replace(message, time=message.time - 1000))
        connection.execute("UPDATE messages SET attributes = ? WHERE id = ?", (older, *first))
        assert 1000 < info(run, file)["queues"][0]["lag"] < 2000
        connection.execute("UPDATE ready SET rank = -5 WHERE message = ?", second)
        assert info(run, file)["queues"][0]["lag"] < 500


def test_info_reads_a_file_of_an_older_schema_version_and_leaves_it_so(
    run: Commands, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_file(file, 1)
    for module in (_inspecting, _schema):
        monkeypatch.setattr(module, "VERSION", 2)
    before = seen(file)
    found = info(run, file)
    assert (found["schema"], found["newest_schema"], found["ready"]) == (1, 2, 2)
    assert "schema version 1 (2 when a bus opens it)" in run("info", file)[1]
    assert seen(file) == before


def test_what_strangers_wrote_into_a_file_does_not_speak_to_the_terminal(run: Commands, file: Path) -> None:
    make_file(file)
    with opened(file) as connection:
        connection.execute("UPDATE queues SET name = 'a' || char(27) || '[31m[red]b[/red]' WHERE name = ?", (QUEUE,))
    out = run("info", file)[1]
    assert "\x1b" not in out
    assert "a?[31m[red]b[/red]" in out


# -- mistakes ---------------------------------------------------------------------------------------------


def _newer(path: Path) -> None:
    make_file(path)
    with opened(path) as connection:
        connection.execute("PRAGMA user_version = 99")


def _others(path: Path) -> None:
    with opened(path) as connection:
        connection.execute("CREATE TABLE invoices (id)")


MISTAKES: dict[str, tuple[Any, int, str]] = {
    "no file": (lambda path: None, 78, "there is no file {file}"),
    "a folder": (Path.mkdir, 78, "{file} is no file"),
    "a text": (lambda path: path.write_text("Dear Sir or Madam,\n" * 100), 78, "{file} is no SQLite file"),
    "an empty file": (Path.touch, 78, "there is no bus in {file}: it is empty"),
    "another program's": (_others, 78, "{file}: the file is the database of another program"),
    "a newer version's": (_newer, 78, "{file}: the file has schema version 99, and this eventbus-sqlite knows 1"),
}


@pytest.mark.parametrize("command", ["info", "vacuum", "check"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_an_exit_code(run: Commands, file: Path, command: str, mistake: str) -> None:
    make, expected, text = MISTAKES[mistake]
    make(file)
    before = seen(file)
    code, out, err = run(command, file)
    assert (code, out) == (expected, "")
    assert err.startswith("error: " + text.format(file=file))
    assert err.count("\n") == 1
    assert seen(file) == before, "nothing was changed or made"


def test_a_url_that_is_none_is_a_mistake(run: Commands) -> None:
    code, _, err = run("info", "sqlite://host/bus.db")
    assert code == 78
    assert "three slashes" in err


@pytest.mark.parametrize("command", ["info", "vacuum", "check"])
def test_a_file_of_another_user_is_refused(run: Commands, command: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # one that others may enter
        os.chmod(folder, 0o755)
        file = Path(folder) / "bus.db"
        make_file(file)
        run(command, file)  # imports what it needs as this user
        with another_user(file):
            code, out, err = run(command, file)
    assert (code, out) == (77, "")
    assert str(file) in err
    assert err.count("\n") == 1


def test_a_file_that_another_program_has_for_itself_is_waited_for_and_then_named(
    run: Commands, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_file(file)
    monkeypatch.setattr(_reading, "_PATIENCE", 0.1)
    with _for_itself(file):
        code, _, err = run("info", file)
    assert (code, err) == (69, f"error: {file} is locked by another program\n")
    assert run("info", file)[0] == 0


@contextmanager
def _for_itself(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE state SET topology = topology")
        yield
        connection.execute("ROLLBACK")


# -- vacuum -----------------------------------------------------------------------------------------------


def _fill_and_empty(bus: EventBus, file: Path, megabytes: int = 8) -> None:
    receipts = [bus.submit(Written(0, "x" * 2**18), mandatory=True) for _ in range(4 * megabytes)]
    assert [receipt.error() for receipt in receipts] == [None] * len(receipts)
    with opened(file) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table in ("messages", "ready"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("COMMIT")


def test_vacuum_gives_room_back_while_a_bus_runs_that_goes_on(run: Commands, file: Path) -> None:
    make_file(file)
    with EventBus(f"sqlite:///{file}", service="writer") as bus:
        _fill_and_empty(bus, file)
        code, out, err = run("vacuum", file, "--json")
        assert (code, err) == (0, "")
        done = json.loads(out)
        assert done["before"]["free_size"] > 6e6 or done["before"]["wal_size"] > 6e6
        assert done["after"] == {"size": file.stat().st_size, "wal_size": 0, "free_size": 0}
        assert file.stat().st_size < 1e6
        assert (done["needs_full"], done["wal_in_use"]) == (False, False)
        bus.publish(Written(1), mandatory=True)
    assert info(run, file)["ready"] == 1
    assert run("vacuum", file)[0] == 0, "there is nothing to do any more"


def test_vacuum_does_not_wait_for_a_reader_that_does_not_end(run: Commands, file: Path) -> None:
    make_file(file)
    with EventBus(f"sqlite:///{file}", service="writer") as bus, opened(file) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM messages").fetchone() == (1,)
        bus.publish(Written(1), mandatory=True)
        code, out, _ = run("vacuum", file)
        assert code == 0
        assert "the write-ahead log is being read, and kept its size" in out
        reader.execute("COMMIT")
        assert "log 0 B" not in out
        assert "write-ahead log" in run("vacuum", file)[1]
        assert Path(f"{file}-wal").stat().st_size == 0


def test_a_full_vacuum_is_refused_while_somebody_has_the_file_open(run: Commands, file: Path) -> None:
    with office(file):
        code, out, err = run("vacuum", file, "--full")
        assert (code, out) == (69, "")
        assert f"in use by mail (process {os.getpid()})" in err
        with opened(file) as connection:  # nor was anything left locked
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    with opened(file) as connection:
        connection.execute("SELECT * FROM state").fetchone()
        assert "in use by another program" in run("vacuum", file, "--full")[2]


def test_a_full_vacuum_mends_a_file_that_gives_no_room_back_in_steps(run: Commands, file: Path) -> None:
    make_file(file, 1)
    with opened(file) as connection:  # as a copy that another program made
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
    with EventBus(f"sqlite:///{file}", service="writer") as bus:
        _fill_and_empty(bus, file)
    size = file.stat().st_size
    code, out, _ = run("vacuum", file)
    assert code == 0
    assert "use --full" in out
    assert file.stat().st_size == size
    code, out, err = run("vacuum", file, "--full", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["after"]["free_size"] == 0
    assert file.stat().st_size < 1e6
    assert list(seen(file)) == ["bus.db"]
    with opened(file) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (_shrinking._INCREMENTAL,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# -- delete -----------------------------------------------------------------------------------------------


def test_a_queue_that_nobody_needs_is_deleted_and_gets_nothing_any_more(run: Commands, file: Path) -> None:
    make_file(file)
    with EventBus(f"sqlite:///{file}", service="writer") as bus:
        bus.publish(Written(1), mandatory=True)
        code, out, err = run("delete", file, QUEUE)
        assert (code, out, err) == (1, "", f"error: queue '{QUEUE}' has 1 messages: --messages deletes them too\n")
        assert info(run, file)["ready"] == 2
        assert run("delete", file, QUEUE, "--messages") == (0, f"{QUEUE}: deleted, with 1 message\n", "")
        with pytest.raises(Unroutable):
            bus.publish(Written(2), mandatory=True)
    found = info(run, file)
    assert ([queue["name"] for queue in found["queues"]], found["bindings"]) == ([f"{QUEUE}.dead"], 0)
    assert run("check", file)[0] == 0
    code, _, err = run("delete", file, QUEUE)
    assert (code, err) == (78, f"error: there is no queue '{QUEUE}' in {file}\n")


def test_a_queue_that_has_consumers_is_not_deleted(run: Commands, file: Path) -> None:
    with office(file) as mail:
        code, out, err = run("delete", file, QUEUE, "--messages")
        assert (code, out) == (1, "")
        assert "in use, by 1 consumers" in err
        mail.go_on.set()
        mail.write(1)
        mail.wait_handled(1)


def test_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["sqlite"], ["sqlite", "info"], ["sqlite", "vacuum"], ["sqlite", "check"], ["sqlite", "delete"]):
        assert run_command([*words, "--help"]) == 0
        out = capsys.readouterr().out
        assert "Examples:" in out
        assert "no bus in it" in out
    assert run_command(["--help"]) == 0
    assert "  sqlite " in capsys.readouterr().out
