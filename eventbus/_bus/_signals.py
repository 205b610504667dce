"""Serving until a signal comes, in the main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Hurry(BaseException):
    """A second signal came while stopping."""


def run_until_signalled(stop: threading.Event, drain: Callable[[], T], now: Callable[[], T]) -> tuple[T, bool]:
    """Wait for ``stop`` or a signal, then ``drain()``; on a second signal break that off and call ``now()``.

    Gives back the result, and whether it was hurried. Outside the main thread no signal is seen: ``stop`` ends it.
    """
    stopping = False

    def on_signal(number: int, frame: Any) -> None:
        nonlocal stopping
        if stopping:
            raise Hurry
        stopping = True
        wake.set()

    # Its own event, not ``stop``: setting ``stop`` would claim a failure.
    wake = threading.Event()
    previous: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        while not wake.is_set() and not stop.wait(0.1 if previous else 0.5):
            pass
        stopping = True
        try:
            return drain(), False
        except Hurry:
            return now(), True
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
