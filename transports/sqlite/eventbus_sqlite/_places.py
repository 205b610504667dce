"""Where a file lies and where a process runs: what decides who can share it."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from eventbus._errors import AccessRefused, ConfigurationError

log = logging.getLogger("eventbus.sqlite")

# SQLite's WAL needs memory that all processes share, and locks that work: no file system of a network promises that
# (https://www.sqlite.org/wal.html, "WAL does not work over a network filesystem").
_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs"),
        *("orangefs", "davfs"),
        *(f"fuse.{kind}" for kind in ("glusterfs", "sshfs", "ceph", "davfs", "rclone", "s3fs", "gcsfuse")),
    }
)


def check_place(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """Whether a bus can have its file here.

    :raises ConfigurationError: there is no such folder, it is no file, or it lies on a network file system.
    :raises AccessRefused: this user may not write there.
    """
    folder = path.parent
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}: make it first{_absolute(path)}")
    if path.exists():
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigurationError(f"{path} is no file")
        if not os.access(path, os.R_OK | os.W_OK):
            raise AccessRefused(f"{path} cannot be read and written by this user (owner {path.stat().st_uid})")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise AccessRefused(f"this user may not write into {folder}: the bus keeps files beside {path.name}")
    kind = file_system(folder, mounts)
    if kind in _NETWORK:
        raise ConfigurationError(
            f"{path} lies on a network file system ({kind}), where SQLite cannot be shared safely: use a local disk, "
            "or RabbitMQ between machines"
        )


def _absolute(path: Path) -> str:
    """A hint where three slashes may have been written for four."""
    here = Path.cwd()
    if path.is_relative_to(here):
        meant = Path("/") / path.relative_to(here)
        if meant.parent.is_dir():
            return f", or write four slashes if you mean {meant}: sqlite:///{meant}"
    return ""


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that a folder is on; empty where the system does not say."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    real = folder.resolve()
    found = ("", "")
    for line in lines:
        left, _, right = line.partition(" - ")
        # Octal for blanks and the like: see proc_pid_mountinfo(5).
        point = left.split()[4].encode().decode("unicode_escape")
        if real.is_relative_to(point) and len(point) >= len(found[0]):
            found = point, right.split()[0]
    return found[1]


def create(path: Path) -> None:
    """An empty file that only its owner may read, unless there is a file: SQLite gives its helpers the same rights."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        log.info("%s is new: processes that are to meet here need this path", path)
    except FileExistsError:
        pass


def boot_id() -> str:
    """Names this run of the machine: monotonic clocks of different ones cannot be compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename


def network_place() -> str:
    """Names what this process shares abstract sockets with; processes elsewhere cannot be woken."""
    try:
        return os.readlink("/proc/self/ns/net")
    except OSError:
        return os.uname().nodename
