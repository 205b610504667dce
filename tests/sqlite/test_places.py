"""Files that cannot be used: each with its own error, at once, on both buses; nothing is tried again and again."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from eventbus_sqlite._places import check_place, file_system

from eventbus import ConfigurationError
from tests.sqlite.asking import ask, ask_as_nobody

KINDS = ("sync", "async")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users can reach: pytest's own are closed to them."""
    made = Path(tempfile.mkdtemp(prefix="eventbus-places-"))
    made.chmod(0o755)
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_text(path: Path) -> None:
    path.write_text("This is no database.\n" * 500)


def a_foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (name)")


def a_database_of_another_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 1234")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (a_folder, "ConfigurationError", "is no file"),
        (a_text, "FileDamaged", "is no SQLite file"),
        (a_foreign_database, "ConfigurationError", "another program"),
        (a_database_of_another_application, "ConfigurationError", "another program"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_something_else_at_the_path_is_refused_and_left_alone(
    make: Callable[[Path], None], error: str, text: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "bus.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    name, said = ask(kind, f"sqlite:///{path}")
    assert (name, str(path) in said, text in said) == (error, True, True), said
    assert before == (path.read_bytes() if path.is_file() else b"")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_folder_is_named_and_no_thread_is_left(kind: str, tmp_path: Path) -> None:
    name, said = ask(kind, f"sqlite:///{tmp_path}/nowhere/bus.db")
    assert (name, f"there is no folder {tmp_path}/nowhere" in said) == ("ConfigurationError", True), said
    assert not [thread.name for thread in threading.enumerate() if thread.name == "eventbus-sqlite-asking"]


def a_file_of_somebody_else(folder: Path) -> None:
    folder.chmod(0o777)
    ask("sync", f"sqlite:///{folder}/bus.db")


def a_folder_that_is_only_read(folder: Path) -> None:
    folder.chmod(0o555)


def a_file_in_a_folder_that_is_only_read(folder: Path) -> None:
    ask("sync", f"sqlite:///{folder}/bus.db")
    (folder / "bus.db").chmod(0o666)
    folder.chmod(0o555)


def a_folder_that_cannot_be_entered(folder: Path) -> None:
    ask("sync", f"sqlite:///{folder}/bus.db")
    folder.chmod(0o000)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (a_file_of_somebody_else, "cannot be read and written by this user"),
        (a_folder_that_is_only_read, "may not write into"),
        (a_file_in_a_folder_that_is_only_read, "may not write into"),
        (a_folder_that_cannot_be_entered, "may not"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_missing_rights_are_named(make: Callable[[Path], None], text: str, folder: Path, tmp_path: Path) -> None:
    make(folder)
    answers = ask_as_nobody(f"sqlite:///{folder}/bus.db", tmp_path / "usable.db")
    for kind, (name, said) in answers.items():
        assert (name, str(folder) in said, text in said) == ("AccessRefused", True, True), f"{kind}: {name}: {said}"


# -- network file systems -------------------------------------------------------------------------------------

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:25 / {here} rw shared:2 - {kind} server:/export rw
31 30 0:26 / {here}/local\\040disk rw - ext4 /dev/sdb rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Callable[[str], Path]:
    """What the kernel would say of mounts if a folder were of this kind."""

    def made(kind: str) -> Path:
        (tmp_path / "here" / "local disk").mkdir(parents=True)
        file = tmp_path / "mountinfo"
        file.write_text(MOUNTS.format(here=tmp_path / "here", kind=kind))
        return file

    return made


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph"])
def test_a_network_file_system_is_refused(kind: str, mounts: Callable[[str], Path], tmp_path: Path) -> None:
    file = mounts(kind)
    with pytest.raises(ConfigurationError, match=rf"network file system \({kind}\).*RabbitMQ"):
        check_place(tmp_path / "here" / "bus.db", file)
    check_place(tmp_path / "here" / "local disk" / "bus.db", file)
    check_place(tmp_path / "bus.db", file)


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "overlay", "fuse.lxcfs"])
def test_a_local_file_system_is_not(kind: str, mounts: Callable[[str], Path], tmp_path: Path) -> None:
    check_place(tmp_path / "here" / "bus.db", mounts(kind))


def test_a_link_into_a_network_file_system_is_followed(mounts: Callable[[str], Path], tmp_path: Path) -> None:
    file = mounts("nfs4")
    (tmp_path / "link").symlink_to(tmp_path / "here")
    assert file_system(tmp_path / "link", file) == "nfs4"


def test_where_the_system_does_not_say_nothing_is_refused(tmp_path: Path) -> None:
    check_place(tmp_path / "bus.db", tmp_path / "no-such-file")
