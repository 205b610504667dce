"""Running the real command as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

from eventbus.testing import eventually

PATIENCE = 30.0


class Result(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Folder:
    """A folder with a program in it, where commands are run."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.path = path
        # With compiled files, as on a user's machine; some test environments switch them off.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("EVENTBUS_")}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.environment |= {"PYTHONPYCACHEPREFIX": str(cache), "PYTHONUNBUFFERED": "1"}
        self._started: list[Running] = []

    def write(self, name: str, text: str) -> Path:
        """A file in it."""
        file = self.path / name
        file.write_text(text)
        return file

    def run(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
        """Run a command to its end."""
        done = subprocess.run(
            command(arguments),
            cwd=self.path,
            env={**self.environment, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Running:
        """Start a command; it is killed at the end of the test."""
        running = Running(command(arguments), self.path, {**self.environment, **(env or {})})
        self._started.append(running)
        return running

    def close(self) -> None:
        """End what still runs."""
        self.write("go", "")  # lets jobs end
        for running in self._started:
            running.close()


def command(arguments: tuple[str, ...]) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "eventbus", *arguments]


class Running:
    """A command at work; what it says is read as it comes."""

    def __init__(self, arguments: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            arguments,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        pairs = ((self._process.stdout, self.out), (self._process.stderr, self.err))
        self._readers = [threading.Thread(target=_read, args=pair, daemon=True) for pair in pairs]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Of the command itself."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def lines(self, text: str) -> list[str]:
        """What it has said with ``text`` in it, on both streams."""
        return [line for line in [*self.out, *self.err] if text in line]

    def says(self, text: str, times: int = 1) -> list[str]:
        """Wait until it has said this so many times."""
        try:
            return eventually(lambda: found if len(found := self.lines(text)) >= times else None, PATIENCE) or []
        except AssertionError:
            raise AssertionError(f"never said {text!r} {times} times, but {self.out} and {self.err}") from None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def ends(self, timeout: float = PATIENCE) -> int:
        """Wait until it has ended; gives its exit code."""
        code = self._process.wait(timeout)
        for reader in self._readers:
            reader.join(5.0)
        return code

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.running:
            self._process.kill()
        self._process.wait()
        for reader, stream in zip(self._readers, (self._process.stdout, self._process.stderr), strict=True):
            reader.join(5.0)
            if stream is not None and not reader.is_alive():
                stream.close()


def _read(stream: IO[str], into: list[str]) -> None:
    into.extend(line.rstrip("\n") for line in stream)  # each as it comes


def workers_of(running: Running, count: int) -> dict[str, int]:
    """Names and process ids of workers, once so many have told that they are ready."""
    return {
        line.split("eventbus.run: ")[1].split(": ready")[0]: process_in(line)
        for line in running.says(": ready (", count)
    }


def process_in(line: str) -> int:
    """The process id in a line of the log."""
    return int(line.rpartition("(process ")[2].rstrip(")"))


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
