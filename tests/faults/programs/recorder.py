"""Facts of a program under test, one JSON line each, written so that SIGKILL loses at most the line being written."""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from pathlib import Path
from typing import Any

PAGE = resource.getpagesize()


class Recorder:
    """Appends facts to one file. Each is a single ``write``, from any thread; times are of the monotonic clock."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._pid = os.getpid()

    def __call__(self, kind: str, **fact: Any) -> None:
        line = {"t": round(time.clock_gettime(time.CLOCK_MONOTONIC), 6), "pid": self._pid, "kind": kind, **fact}
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def state(self, when: str, **more: Any) -> None:
        """What this process holds now: threads, sockets, resident bytes."""
        self("state", when=when, threads=threading.active_count(), sockets=sockets(), rss=resident(), **more)


def sockets() -> int:
    """Open sockets of this process."""
    count = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{entry}").startswith("socket:")
        except OSError:  # the descriptor of the listing itself
            pass
    return count


def resident() -> int:
    """Resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
