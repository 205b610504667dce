"""A process that is forked while links are open.

SQLite keeps book of its locks in the memory of the process, for all of its connections to a file. A child would inherit
the entries and not the locks: it could find the file locked for ever, or lose what it writes when its parent closes the
file (https://www.sqlite.org/howtocorrupt.html, section 2.6). So links close their files before a fork, and the
parent's open them again after it; the session in the file goes on.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from eventbus._errors import ConfigurationError

log = logging.getLogger("eventbus.sqlite")

PATIENCE = 2.0
"""Seconds that a fork waits for a transaction to end."""


class Opened(Protocol):
    """The open file, as far as forks need it."""

    path: Path

    def suspend(self) -> None:
        """Close it for a moment."""

    def resume(self) -> None:
        """Open it again."""


class Fork:
    """A link's part in forks: ``mutex`` is held by whoever uses the file, ``opened`` gives it while it is open;
    ``in_child`` is called in the child, where nothing of the link may be used."""

    def __init__(
        self, mutex: threading.Lock, opened: Callable[[], Opened | None], in_child: Callable[[], None]
    ) -> None:
        self._mutex = mutex
        self._opened = opened
        self._in_child = in_child
        self._still = False

    def watch(self) -> None:
        """From now on."""
        with _one_at_a_time:
            _known.add(self)

    def unwatch(self) -> None:
        """No more."""
        with _one_at_a_time:
            _known.discard(self)

    def before(self) -> None:
        """Close the file, once nobody uses it."""
        self._still = self._mutex.acquire(timeout=PATIENCE)
        store = self._opened()
        if self._still and store is not None:
            store.suspend()

    def in_parent(self) -> None:
        """Open it again; whoever uses it next finds out if that has failed."""
        if not self._still:
            return
        store = self._opened()
        try:
            if store is not None:
                store.resume()
        except Exception as error:
            log.debug("the file could not be opened again after a fork: %s", error)
        finally:
            self._mutex.release()

    def in_child(self) -> None:
        """Let go of everything. A file that was in use during the fork cannot be used in this process."""
        store = self._opened()
        if not self._still and store is not None:
            _tainted.add(store.path)
            _leak(store)
        self._in_child()


_known: weakref.WeakSet[Fork] = weakref.WeakSet()
_taking_part: list[Fork] = []
_one_at_a_time = threading.Lock()
_tainted: set[Path] = set()


def refuse_tainted(path: Path) -> None:
    """:raises ConfigurationError: this process cannot use the file."""
    if path in _tainted:
        raise ConfigurationError(
            f"{path} was in use by another thread when this process was forked, and SQLite cannot be used after that: "
            "start a program of its own (multiprocessing: spawn), or fork before the bus is started"
        )


def _leak(thing: object) -> None:
    """Keep it for ever: closing the parent's database in a child would undo the parent's locks."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _before() -> None:
    _one_at_a_time.acquire()
    _taking_part[:] = _known
    for fork in _taking_part:
        fork.before()


def _in_parent() -> None:
    for fork in _taking_part:
        fork.in_parent()
    _taking_part.clear()
    _one_at_a_time.release()


def _in_child() -> None:
    global _one_at_a_time
    for fork in _taking_part:
        fork.in_child()
    _taking_part.clear()
    _one_at_a_time = threading.Lock()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
