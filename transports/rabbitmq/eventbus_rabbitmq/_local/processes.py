"""Signals by process id, and who descends from whom."""

from __future__ import annotations

import os
from pathlib import Path


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
