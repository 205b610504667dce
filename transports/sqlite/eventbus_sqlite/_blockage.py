"""Why nothing can be written for now: the file is locked, or the disk is almost full."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("eventbus.sqlite")

_LOOK_AT_ROOM = 1.0


class Blockage:
    """What ``blocked`` hears, each time that it changes; None when all can be written."""

    def __init__(self, path: Path, disk_free_limit: int, blocked: Callable[[str | None], None]) -> None:
        self._path = path
        self._limit = disk_free_limit
        self._blocked = blocked
        self._look_at = 0.0
        self._room = True
        self._locked: str | None = None

    def lock(self, reason: str | None) -> None:
        """Others have locked the file for longer than a moment (None: not any more)."""
        if reason != self._locked:
            self._locked = reason
            self._tell()

    def room(self, now: float) -> bool:
        """Whether there is room on the disk for further messages; looked at once a second."""
        if now < self._look_at:
            return self._room
        self._look_at = now + _LOOK_AT_ROOM
        try:
            found = os.statvfs(self._path.resolve().parent)
        except OSError:
            return self._room
        had, self._room = self._room, found.f_bavail * found.f_frsize >= self._limit
        if had and not self._room:
            log.error("less than disk_free_limit is free where %s lies: no more messages are taken", self._path)
        if had != self._room:
            self._tell()
        return self._room

    def _tell(self) -> None:
        full = None if self._room else f"the disk is almost full where {self._path} lies"
        self._blocked(self._locked or full)
