"""Files of certificates and keys: keys are for their owner only from the first moment, and pairs change together."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from eventbus import CertificateError, ConfigurationError

_PRIVATE, _PUBLIC = 0o600, 0o644


class NewFile(NamedTuple):
    """What is to be written where. ``private`` ones are for their owner only."""

    path: Path
    data: bytes
    private: bool = False


def read(path: Path) -> bytes:
    """What a file holds.

    :raises CertificateError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from error


def create(files: Sequence[NewFile]) -> None:
    """Write files that do not exist yet: all of them, or none.

    :raises ConfigurationError: one exists already, or cannot be written.
    """
    made: list[Path] = []
    try:
        for new in files:
            with _explained(new.path):
                new.path.parent.mkdir(parents=True, exist_ok=True)
                # O_EXCL: there is no moment between the look and the writing in which another could make the file.
                descriptor = os.open(new.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode(new))
                made.append(new.path)
                _fill(descriptor, new.data)
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise
    _sync_folders([new.path for new in files])


def replace(files: Sequence[NewFile]) -> None:
    """Write files over those that are there, each in one step, in this order.

    All are written beside their targets first, so that a full disk or a missing permission changes none of them. A
    reader sees the old or the new of each file, never a part of it. Who may read a file stays as it was.

    :raises ConfigurationError: one cannot be written.
    """
    staged: list[tuple[Path, Path]] = []
    try:
        for new in files:
            target = Path(os.path.realpath(new.path))  # a link stays one: it is the file behind it that changes
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
            with _explained(new.path):
                target.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode(new))
                staged.append((temporary, target))
                try:
                    _as_before(descriptor, target, private=new.private)
                except BaseException:
                    os.close(descriptor)
                    raise
                _fill(descriptor, new.data)
        for temporary, target in staged:
            with _explained(target):
                os.replace(temporary, target)
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
    _sync_folders([target for _, target in staged])


def _mode(new: NewFile) -> int:
    return _PRIVATE if new.private else _PUBLIC


def _as_before(descriptor: int, target: Path, *, private: bool) -> None:
    """Give the new file the owner of the old one: what root renews, the broker's own user must still be able to read.

    So must its group, where somebody has allowed that; others never read a key.
    """
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return
    ours = os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (ours.st_uid, ours.st_gid):
        try:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        except OSError as error:
            raise ConfigurationError(
                f"{target} belongs to another user (id {old.st_uid}) or group: replace it as that user, or as root"
            ) from error
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & (0o660 if private else 0o666))


def _fill(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folders(paths: Sequence[Path]) -> None:
    """Make names last through a loss of power, as far as the file system knows how."""
    for folder in {path.parent for path in paths}:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except OSError:  # a folder may be writable and not readable; its files are there all the same
            continue
        try:
            os.fsync(descriptor)
        except OSError:
            pass
        finally:
            os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        if path.exists() or path.is_symlink():
            raise ConfigurationError(f"{path} exists already, and is not overwritten") from error
        raise ConfigurationError(f"{path} cannot be written: {path.parent} is not a folder") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
