"""Watching the code of a program under development."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from eventbus._errors import ConfigurationError


class Watcher:
    """Calls ``changed`` when Python files below a folder change.

    :raises ConfigurationError: watchfiles is not installed.
    """

    def __init__(self, folder: Path, changed: Callable[[list[str]], None]) -> None:
        try:
            from watchfiles import PythonFilter, watch
        except ImportError:
            raise ConfigurationError(
                '--reload needs watchfiles; install it with: pip install "eventbus[reload]"'
            ) from None
        self._stop = threading.Event()

        def run() -> None:
            for changes in watch(
                folder, watch_filter=PythonFilter(), stop_event=self._stop, debounce=200, rust_timeout=200
            ):
                changed(sorted({path for _, path in changes}))

        self._thread = threading.Thread(target=run, name="eventbus-reload", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop it."""
        self._stop.set()
        self._thread.join(2.0)
