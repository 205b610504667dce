"""Signals by process id, and who descends from whom."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path


class Adopted:
    """A process that an earlier program of ours started, known by its id and the time when it began.

    Has of :class:`subprocess.Popen` what engines use.
    """

    def __init__(self, pid: int, began: str) -> None:
        self.pid = pid
        self.began = began
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """None while it runs. Its exit code is unknown, as it is not our child: 0 stands for it."""
        if self.returncode is None and (not alive(self.pid) or began(self.pid) != self.began):
            self.returncode = 0
        return self.returncode

    def terminate(self) -> None:
        """Ask it to end."""
        if self.poll() is None:
            send(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        if self.poll() is None:
            send(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended; raises subprocess.TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() >= until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(0.02)
        return code


def began(pid: int) -> str:
    """When a process began, as text to compare: a later process of the same id began later."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def send(pid: int, number: int) -> None:
    """Sends a signal; a process that is gone already is fine."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def descendants(root: int) -> list[int]:
    """The living processes below ``root``, without zombies (those only wait for their parent to look).

    Erlang puts its helpers into sessions of their own, so only the chain of parents tells whose they are.
    Where there is no /proc the answer is empty: a broker's helpers end by themselves there, too.
    """
    children: dict[int, list[int]] = {}
    for pid, parent in _parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    if Path("/proc/self/stat").exists():
        return _parent(pid) is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _parents() -> dict[int, int]:
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    return {pid: parent for pid in pids if (parent := _parent(pid)) is not None}


def _parent(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # "pid (name, which may hold anything) state parent ..."
    state, parent = text.rpartition(")")[2].split()[:2]
    return None if state in "ZX" else int(parent)
