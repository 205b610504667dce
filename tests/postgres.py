"""A private PostgreSQL for the tests that need one: a cluster in a temporary folder, gone afterwards.

It listens on a Unix socket alone, in a folder that only its own user and root can enter, and runs as an unprivileged
user, because it refuses to run as root.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from eventbus.testing import eventually

SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "log_min_messages": "warning",
}


class LocalPostgres:
    """One private server. :raises RuntimeError: there is none to start, or it does not start."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self.folder = Path(tempfile.mkdtemp(prefix="eventbus-pg-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        made = subprocess.run(
            self._command("initdb", "-D", "data", "-U", "eventbus", "-A", "trust", "--no-sync", "-E", "UTF8"),
            capture_output=True, text=True, check=False, timeout=120, **self._as_user(),
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stdout}{made.stderr}")

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", "data", "-k", str(self.folder), *settings),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as_user(),
            )  # fmt: skip
        eventually(self._answers, 60.0, what=f"PostgreSQL ({self.folder / 'log'})")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT breaks connections off and shuts down, SIGQUIT is as a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self) -> str:
        """The name of a new, empty database."""
        name = f"test_{secrets.token_hex(4)}"
        try:
            with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
        except psycopg.OperationalError as error:
            raise RuntimeError(f"{error}\nexit code {self._exit_code}; its log ends so:\n{self._log_end()}") from error
        return name

    def dsn(self, database: str) -> str:
        """For psycopg."""
        return f"host={self.folder} user=eventbus dbname={database}"

    def url(self, database: str, driver: str = "psycopg") -> str:
        """For SQLAlchemy."""
        return f"postgresql+{driver}://eventbus@/{database}?host={self.folder}"

    def _answers(self) -> bool:
        if self._exit_code is not None:
            raise RuntimeError(f"PostgreSQL ended with {self._exit_code}: {self._log_end()}")
        try:
            psycopg.connect(self.dsn("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def _exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def _log_end(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def _command(self, program: str, *arguments: str) -> Sequence[str]:
        command = [str(self._programs / program), *arguments]
        # So that it does not outlive a test run that is killed.
        return ["setpriv", "--pdeathsig", "INT", *command] if shutil.which("setpriv") else command

    def _as_user(self) -> dict[str, Any]:
        # A terminal's Ctrl-C is for the test run, which stops the server in its own time.
        common: dict[str, Any] = {
            "cwd": self.folder,
            "start_new_session": True,
            "env": {"LC_ALL": "C", "PATH": os.defpath},
        }
        if os.getuid() != 0:
            return common
        return {**common, "user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


def _programs() -> Path:
    """The folder of the server's programs. Without one the tests fail: ``make database`` installs it."""
    folders = [Path(home) / "bin" for home in [os.environ.get("EVENTBUS_POSTGRES_HOME")] if home]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    in_path = shutil.which("initdb")
    folders += [Path(in_path).resolve().parent] if in_path else []
    for folder in folders:
        if (folder / "initdb").exists():
            return folder
    raise RuntimeError("there is no PostgreSQL to start; install one with: make database")
