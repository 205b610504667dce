"""Receipts for threads: handles of publishes that are not confirmed yet."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eventbus._bus._sending import PATIENCE, SILENT, Sending
from eventbus._errors import PublishError, PublishUnknown

if TYPE_CHECKING:
    from eventbus._bus._core import BusCore
    from eventbus._bus._windows import Window
    from eventbus._outgoing import PublishOptions

log = logging.getLogger("eventbus")


class Receipt(Sending):
    """A publish on its way. Wait for it, or let it call you."""

    __slots__ = ("_callbacks", "_error", "_lock", "_settled")

    def __init__(self, bus: BusCore, window: Window, event: Any, options: PublishOptions) -> None:
        super().__init__(bus, window, event, options)
        self._error: PublishError | None = None
        self._settled = False
        self._callbacks: list[Callable[[Receipt], None]] = []
        # A bare lock, taken until the outcome is there: a tenth of the price of an Event.
        self._lock = threading.Lock()
        self._lock.acquire()

    @property
    def id(self) -> str:
        """The message's id."""
        return self.message.id

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._settled

    def error(self, timeout: float | None = None) -> PublishError | None:
        """The outcome: None when confirmed. Waits at most ``timeout`` seconds, or until the deadline."""
        if not self._settled:
            left = max(0.0, self.deadline + PATIENCE - time.monotonic())
            if timeout is not None and timeout < left:
                if not self._lock.acquire(timeout=max(0.0, timeout)):
                    raise PublishUnknown(f"no confirm within {timeout:g} s; the receipt can be waited for again")
                self._lock.release()
            elif self._lock.acquire(timeout=left):
                self._lock.release()
            else:
                return PublishUnknown(SILENT)
        return self._error

    def wait(self, timeout: float | None = None) -> None:
        """Return when the broker has confirmed the message.

        :raises PublishError: every other outcome, each as its own class.
        """
        error = self.error(timeout)
        if error is not None:
            raise error

    def add_done_callback(self, function: Callable[[Receipt], None]) -> None:
        """Call ``function(receipt)`` at the outcome, in the transport's thread: it must be quick."""
        self._callbacks.append(function)
        if self._settled:
            self._call()

    def _ended(self, error: PublishError | None) -> None:
        self._error = error
        self._settled = True
        self._lock.release()
        if self._callbacks:
            self._call()

    def _call(self) -> None:
        while self._callbacks:
            try:
                function = self._callbacks.pop()
            except IndexError:  # the other thread was quicker
                return
            try:
                function(self)
            except Exception:
                log.exception("a receipt's callback failed")
