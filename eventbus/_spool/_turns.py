"""Decisions under a lock, what they ask for outside of it, and both in one order."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from eventbus._spool._actions import Action

log = logging.getLogger("eventbus.spool")


class Turns:
    """Takes decisions from any thread, and carries out the actions one after the other.

    Links make callbacks while they are called, in this thread or another: nothing may be locked then. So the thread
    that finds nobody at work carries out what is there, also for the others.
    """

    def __init__(self, carry_out: Callable[[Action], None]) -> None:
        self.lock = threading.Lock()
        self.out: deque[Action] = deque()
        self._carry_out = carry_out
        self._working = threading.Lock()

    def step(self, decide: Callable[..., None], *arguments: Any) -> None:
        """Decide, and carry out what comes of it."""
        with self.lock:
            decide(*arguments)
        self.work()

    def work(self) -> None:
        """Carry out what is there, unless another thread, or this one further up, is at it."""
        out = self.out
        # Looked at again after the release: another thread may have added something and found us still at work.
        while out and self._working.acquire(blocking=False):
            try:
                while out:
                    self._one(out.popleft())
            finally:
                self._working.release()

    def _one(self, action: Action) -> None:
        try:
            self._carry_out(action)
        except Exception:
            log.exception("the spool could not carry out: %s", type(action).__name__)
