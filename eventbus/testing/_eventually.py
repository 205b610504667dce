"""Waiting for what other threads do, without fixed sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], timeout: float = 5.0, *, what: str = "") -> T:
    """Call ``check`` until it returns something true, and return that.

    :raises AssertionError: it was not true within ``timeout`` seconds; the text has ``what`` and the last value.
    """
    until = time.monotonic() + timeout
    pause = 0.001
    while not (value := check()):
        if time.monotonic() > until:
            raise AssertionError(f"{what or 'the expected'} did not happen within {timeout:g} s; last: {value!r}")
        time.sleep(pause)
        pause = min(0.02, pause * 1.5)
    return value
