"""On which file system a folder is: what is never written to a disk says nothing about durability."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs", "hugetlbfs")


class NotADiskError(Exception):
    """The folder is kept in memory."""


def file_system(folder: Path, mounts: str | None = None) -> str:
    """Its name, such as ``ext4``; ``unknown`` where the system does not say.

    ``mounts`` has the form of proc(5) ``/proc/[pid]/mountinfo``.
    """
    if mounts is None:
        mounts = MOUNTS.read_text(encoding="utf-8") if MOUNTS.exists() else ""
    place, found = folder.resolve(), ("", "unknown")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        # Spaces in paths are written in octal.
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
        if place.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, after.split()[0])  # of two mounts at one point the later hides the earlier
    return found[1]


def checked(folder: Path) -> str:
    """The file system of a folder that is on a disk.

    :raises NotADiskError: it is in memory.
    """
    name = file_system(folder)
    if name in IN_MEMORY:
        raise NotADiskError(f"{folder} is on {name}, which is kept in memory: choose a --folder on a disk")
    return name
