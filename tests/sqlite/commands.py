"""``eventbus sqlite`` run in this process, and a file with a group's messages for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from eventbus import EventBus, Reject, event
from eventbus._cli.root import run_command
from eventbus.testing import eventually
from tests.sqlite.files import opened

GROUP = "mail"
QUEUE = "mail.letters.written"


@event("letters.written")
@dataclass(frozen=True)
class Written:
    number: int
    text: str = ""


class Commands:
    """Runs commands; gives exit code, standard output and standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = run_command(["sqlite", *map(str, words)])
        return code, *self._capsys.readouterr()


class Office:
    """A bus on a file with a handler that waits to be let go on; a negative number is a dead letter at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.go_on = threading.Event()
        self.handled: list[int] = []
        self.bus = EventBus(f"sqlite:///{path}", service=GROUP, grace=5)

        @self.bus.subscribe(Written, concurrency=2, prefetch=3)
        def handle(written: Written) -> None:
            if written.number < 0:
                raise Reject("no stamp")
            self.go_on.wait(20)
            self.handled.append(written.number)

    def write(self, *numbers: int, text: str = "") -> None:
        for number in numbers:
            self.bus.publish(Written(number, text))

    def wait_handled(self, *numbers: int) -> None:
        eventually(lambda: sorted(self.handled) == sorted(numbers), what=f"handling {numbers}")


@contextmanager
def office(path: Path) -> Iterator[Office]:
    """A running bus with a handler."""
    made = Office(path)
    try:
        with made.bus:
            yield made
            made.go_on.set()
    finally:
        made.go_on.set()


def make_file(path: Path, *numbers: int) -> None:
    """A file with these messages in the group's queue, and one dead letter, that nobody has open."""
    with office(path) as first, opened(path) as connection:
        first.go_on.set()
        first.write(-1)
        dead = "SELECT count(*) FROM ready JOIN queues ON queues.id = queue WHERE name = ?"
        eventually(lambda: connection.execute(dead, (f"{QUEUE}.dead",)).fetchone() == (1,), what="a dead letter")
    with EventBus(f"sqlite:///{path}", service="writer") as bus:
        for number in numbers:
            bus.publish(Written(number))


@contextmanager
def another_user(path: Path) -> Iterator[None]:
    """This thread as a user who may not read the file."""
    if os.geteuid():
        path.chmod(0)
        try:
            yield
        finally:
            path.chmod(0o600)
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
