"""A process that is forked while links are open: its child has copies of everything, and owns none of it."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class Inherited(Protocol):
    """What has to let go in a child."""

    def after_fork(self) -> None:
        """In a child process: nothing of this is ours, and nothing may be closed as if it were."""


_known: weakref.WeakSet[Inherited] = weakref.WeakSet()


def watch(thing: Inherited) -> None:
    """Have it told after a fork."""
    _known.add(thing)


def unwatch(thing: Inherited) -> None:
    """It has ended."""
    _known.discard(thing)


def leak(thing: object) -> None:
    """Keep it for ever: closing the parent's database in a child would undo the parent's locks
    (https://www.sqlite.org/howtocorrupt.html, section 2.6)."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _after_fork() -> None:
    for thing in list(_known):
        thing.after_fork()


os.register_at_fork(after_in_child=_after_fork)
