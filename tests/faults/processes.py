"""The programs under test as processes: started with settings, told what to do, ended, and their end recorded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Hung(AssertionError):
    """A program did not end in time."""


def together(what: Callable[[Process], None], processes: Iterable[Process]) -> None:
    """Do this with all of them at the same time, so that none is measured while another one is waited for."""
    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(what, process) for process in processes]:
            done.result()


class Process:
    """One program under test."""

    def __init__(
        self, kind: str, name: str, folder: Path, settings: dict[str, Any], environment: dict[str, str]
    ) -> None:
        self.kind, self.name = kind, name
        self.records = folder / f"{name}.jsonl"
        self.log = folder / f"{name}.log"
        self.grace = float(settings["grace"])
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"tests.faults.programs.{kind}"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=log,
                stderr=log,
                env=os.environ | environment,
            )
        self.tell(json.dumps(settings | {"records": str(self.records)}))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def tell(self, line: str) -> None:
        """Give it a command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:  # it has ended; its exit code says how
            pass

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self.alive:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it as the kernel would."""
        self._process.kill()
        self.reap(5.0)

    def stop(self, *, within: float) -> None:
        """Ask a publisher to end: no new messages, and the outcomes of all."""
        self.tell("stop")
        self._end(time.monotonic(), within)

    def terminate(self) -> None:
        """SIGTERM, as an operator would; it must end within its grace period and a second."""
        self.send(signal.SIGTERM)
        self._end(time.monotonic(), self.grace + 1.0)

    def _end(self, began: float, allowed: float) -> None:
        slack = 2.0  # to leave Python, on a busy machine
        try:
            code = self._process.wait(allowed + slack + 2.0)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGABRT)
            self._process.kill()
            code = self._process.wait(5.0)
        self._note(code, time.monotonic() - began, allowed + slack)

    def reap(self, within: float) -> int:
        """Wait for the end of one that ends by itself; gives its exit code."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5.0)
            raise Hung(f"{self.name} did not end within {within:g} s") from None
        self._note(code, 0.0, within)
        return code

    def _note(self, code: int, seconds: float, allowed: float) -> None:
        fact = {
            "t": time.monotonic(), "pid": self.pid, "kind": "exit", "name": self.name,
            "code": code, "seconds": round(seconds, 3), "allowed": allowed,
        }  # fmt: skip
        with self.records.with_suffix(".exit.jsonl").open("a") as file:
            file.write(json.dumps(fact) + "\n")
        if self._process.stdin is not None:
            self._process.stdin.close()
