"""Signals that come before a bus catches them by itself, or after."""

from __future__ import annotations

import os
import signal
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class EarlySignals:
    """Ends the process in good order while it loads; keeps a signal for the bus while that starts."""

    def __init__(self) -> None:
        self._serving = False
        self._kept = False
        self._code: int | None = None

    def catch(self) -> None:
        """Catch signals from now on. For the main thread."""
        for number in SIGNALS:
            signal.signal(number, self._came)

    def serving(self) -> None:
        """The bus catches signals from here on, or in a moment."""
        self._serving = True

    def deliver(self) -> None:
        """Give the bus the signal that came too early for it, if it catches signals by now."""
        if self._kept and signal.getsignal(signal.SIGTERM) != self._came:
            self._kept = False
            os.kill(os.getpid(), signal.SIGTERM)

    def ended(self, code: int) -> None:
        """The bus has ended: a signal now only hurries the interpreter, which may wait for threads of the program."""
        self._code = code
        self.catch()

    def _came(self, number: int, frame: Any) -> None:
        if not self._serving:
            raise SystemExit(0)  # nothing has begun, so nothing is left behind
        if self._code is not None:
            os._exit(self._code)
        self._kept = True
