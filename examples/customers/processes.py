"""A service of the example as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Self

from examples.customers.transcript import Transcript

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0
READY_OR_ENDED = r"^ready$|^\(ended\)$"


class DemoFailed(Exception):
    """Something did not happen; the text says what."""


class Service:
    """One service as a process; its lines go to the transcript, its log is kept for the case of failure.

    ``transcript`` may be changed at any time: lines that come later go to the new one.
    """

    def __init__(self, name: str, url: str, transcript: Transcript, *arguments: str) -> None:
        self.name = name
        self.transcript = transcript
        self._log: IO[str] = tempfile.TemporaryFile("a+", encoding="utf-8")  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"examples.customers.{name}", *arguments],
            cwd=ROOT,
            # The URL has a password: the environment keeps it out of the list of processes.
            env={**os.environ, "EVENTBUS_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._killed = False
        self._reader = threading.Thread(target=self._read, name=f"demo-{name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.transcript.teller(self.name)(line.rstrip())
        if not self._killed:
            self.transcript.teller(self.name)("(ended)")

    def wait_ready(self) -> None:
        """Until it has said so.

        :raises DemoFailed: it ended instead, or said nothing in time.
        """
        said = self.transcript
        said.wait_until(lambda: said.count(self.name, READY_OR_ENDED) > 0, PATIENCE)
        if said.count(self.name, r"^\(ended\)$"):
            self.wait(PATIENCE)
        if not said.count(self.name, "^ready$"):
            raise DemoFailed(f"{self.name} was not ready after {PATIENCE:g} s{self._said()}")

    def terminate(self) -> None:
        """Ask it to drain and end."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as it stands, with SIGKILL; returns when it is gone and all that it said is in the transcript."""
        self._killed = True
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def wait(self, seconds: float) -> None:
        """Until it has ended well.

        :raises DemoFailed: it did not end, or not with 0.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"{self.name} did not end within {seconds:g} s{self._said()}") from None
        self._reader.join()
        if code != 0:
            raise DemoFailed(f"{self.name} ended with exit code {code}{self._said()}")

    def _said(self) -> str:
        self._log.seek(0)
        text = self._log.read().strip()
        return f"; its log:\n{text}" if text else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()  # which does nothing to a process that has ended
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
