"""What is known of the workers' health, and the file that says whether all are ready."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventbus._errors import ConfigurationError

log = logging.getLogger("eventbus.run")


class Board:
    """The last health of each worker, by its name.

    :raises ConfigurationError: there can be no ready file at this place.
    """

    def __init__(self, ready_file: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Mapping[str, Any]] = {}
        self._expected: set[str] = set()
        self._file = ready_file
        self._complaint = ""
        try:
            with self._lock:
                self._show()  # one of an earlier run goes
            if ready_file is not None and not ready_file.parent.is_dir():
                raise FileNotFoundError(2, "there is no such folder")
            if ready_file is not None and not os.access(ready_file.parent, os.W_OK):
                raise PermissionError(13, "its folder may not be written to")
        except OSError as error:
            raise ConfigurationError(f"--ready-file {ready_file}: {error.strerror}") from None

    def expect(self, name: str) -> None:
        """A worker that there should be: not ready yet."""
        with self._lock:
            self._expected.add(name)
            self._known.pop(name, None)
            self._show_or_complain()

    def note(self, name: str, health: Mapping[str, Any]) -> bool:
        """A worker has told of itself; gives whether its status is another one now."""
        with self._lock:
            before = self._known.get(name, {}).get("status")
            self._known[name] = health
            self._show_or_complain()
        return bool(before != health["status"])

    @property
    def ready(self) -> bool:
        """Whether all workers are."""
        with self._lock:
            return self._is_ready()

    def document(self) -> dict[str, Any]:
        """All that is known."""
        with self._lock:
            workers = {name: self._known.get(name) for name in sorted(self._expected)}
            return {"ready": self._is_ready(), "workers": workers}

    def close(self) -> None:
        """Nobody is ready any more."""
        with self._lock:
            self._expected.clear()
            self._show_or_complain()

    def _is_ready(self) -> bool:
        states = [self._known.get(name, {}).get("status") for name in self._expected]
        return bool(states) and all(state == "ready" for state in states)

    def _show_or_complain(self) -> None:
        """A file that cannot be written, on a disk that is full, ends no service; it is told once."""
        try:
            self._show()
            self._complaint = ""
        except OSError as error:
            if self._complaint != str(error):
                self._complaint = str(error)
                log.error("--ready-file %s: %s", self._file, error.strerror)

    def _show(self) -> None:
        if self._file is not None:
            if self._is_ready():
                self._file.touch()
            else:
                self._file.unlink(missing_ok=True)
