"""What a ``sqlite:`` URL says: the file, and how it is used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from eventbus._errors import ConfigurationError

Synchronous = Literal["FULL", "NORMAL"]

_SIZE = re.compile(r"(\d+)\s*([kmg]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_FORM = "sqlite:///relative/file.db or sqlite:////absolute/file.db"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a file is used. Times are seconds, sizes bytes.

    ``synchronous`` is SQLite's: with ``FULL`` a confirmed message survives a loss of power as far as the disk keeps its
    word, with ``NORMAL`` the death of every process, but not always a loss of power
    (https://www.sqlite.org/pragma.html#pragma_synchronous). ``lease``: a process that has not been heard of for so long
    is dead, and what it held goes back to its queues. ``disk_free_limit``: with less free space no message is taken, so
    that there is room to settle those that are there. ``max_size`` bounds the file (None: not).
    """

    synchronous: Synchronous = "FULL"
    lease: float = 30.0
    disk_free_limit: int = 50 * 2**20
    max_size: int | None = None

    def __post_init__(self) -> None:
        if self.synchronous not in get_args(Synchronous):
            raise ConfigurationError(f"synchronous is FULL or NORMAL, not {self.synchronous!r}")
        if not 0.5 <= self.lease <= 86400:
            raise ConfigurationError("lease is seconds from 0.5 to 86400")
        if self.disk_free_limit < 0 or (self.max_size is not None and self.max_size < 2**20):
            raise ConfigurationError("disk_free_limit is not negative, and max_size at least 1MB")


def parse(url: str) -> tuple[Path, Options]:
    """The file and the options of a URL; ConfigurationError says what is wrong with it."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        raise ConfigurationError(f"the URL of an SQLite bus is {_FORM}")
    if not url.lower().startswith("sqlite:///") or parts.fragment or parts.path == "/":
        # Not repeated: somebody may have written a password into it.
        raise ConfigurationError(f"the URL of an SQLite bus has three slashes and a file, and no host: {_FORM}")
    path = unquote(parts.path[1:])
    if path.startswith("~"):
        raise ConfigurationError("~ is for shells; a URL has the whole path: sqlite:////home/you/file.db")
    if path == ":memory:":
        raise ConfigurationError("sqlite:///:memory: could not be shared by anybody: use memory:// for a bus in memory")
    return Path(path), _options(dict(parse_qsl(parts.query, keep_blank_values=True)))


def _options(given: dict[str, str]) -> Options:
    known = Options.__struct_fields__
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigurationError(
            f"unknown option of an SQLite URL: {', '.join(unknown)}; known are: {', '.join(known)}"
        )
    values: dict[str, object] = {}
    for name, text in given.items():
        if name == "synchronous":
            values[name] = text.upper()
        elif name == "lease":
            values[name] = _seconds(text)
        else:
            values[name] = _bytes(name, text)
    return Options(**values)  # type: ignore[arg-type]


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError("lease is a number of seconds") from None


def _bytes(name: str, text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(f"{name} is a number of bytes, as 500000, 50MB or 2GB")
    return int(found[1]) * _UNITS[found[2].lower()]
