"""Serving until a signal comes, in the main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.25
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Hurry(BaseException):
    """A second signal came while stopping."""


def run_until_signalled(wake: threading.Event, drain: Callable[[], T], now: Callable[[], T]) -> tuple[T, bool]:
    """Wait for ``wake`` or a signal, then ``drain()``; on a second signal break that off and call ``now()``.

    Gives back the result, and whether it was a signal. Outside the main thread only ``wake`` ends it.
    """
    signalled = hurried = draining = False

    def on_signal(number: int, frame: Any) -> None:
        nonlocal signalled, hurried
        hurried, signalled = signalled, True
        if hurried and draining:
            raise Hurry
        wake.set()

    previous: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        # Not for ever: the system may give a signal to another thread, and then nothing wakes this one, the main one,
        # which alone runs signal handlers.
        while not wake.wait(LOOK_SECONDS):
            pass
        try:
            draining = True
            if hurried:  # both came before this thread looked
                raise Hurry
            return drain(), signalled
        except Hurry:
            draining = False
            return now(), True
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
