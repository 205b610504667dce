"""Signals for a running loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from eventbus._bus._signals import SIGNALS


def catch_signals(loop: asyncio.AbstractEventLoop, handler: Callable[[], None]) -> list[signal.Signals]:
    """Call ``handler`` at SIGTERM and SIGINT; gives the signals that could be caught."""
    caught = []
    for number in SIGNALS:
        try:
            loop.add_signal_handler(number, handler)
            caught.append(number)
        except (
            NotImplementedError,
            RuntimeError,
            ValueError,
        ):  # not the main thread, or no such signals here
            break
    return caught
