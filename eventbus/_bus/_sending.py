"""A publish between its place in the window and its outcome."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from eventbus._errors import NotSent, PublishError, Unroutable
from eventbus._message import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbus._bus._core import BusCore
    from eventbus._outgoing import PublishOptions


# The transport answers by the deadline; this much later the bus answers in its place.
PATIENCE = 0.5
SILENT = "the transport gave no outcome by the deadline"


class Leavable(Protocol):
    """Where publishes without an outcome have their places."""

    def leave(self) -> None:
        """Give a place back."""


class Sending:
    """What the outcome of one publish needs. What is to be done at the end, a subclass says."""

    __slots__ = ("_began", "_bus", "_event_type", "_mandatory", "_window", "deadline", "message")

    def __init__(self, bus: BusCore, window: Leavable, event: Any, options: PublishOptions) -> None:
        self._bus = bus
        self._window = window
        self._began = time.monotonic()
        self.deadline = self._began + (bus.timeout if options.timeout is None else options.timeout)
        self.message = bus._message(event, options)
        self._event_type = type(event)
        self._mandatory = options.mandatory

    @property
    def must_route(self) -> bool:
        """Whether Unroutable is its caller's business."""
        return self._bus._must_route(self._event_type, self._mandatory)

    def outcome(self, error: PublishError | None) -> None:
        """Take the one outcome, from the transport."""
        self._window.leave()
        bus = self._bus
        if error is not None and type(error) is Unroutable and not self.must_route:
            bus._note_unroutable(self.message)
            error = None
        if bus._middleware.watches_publishes:
            self._tell(error)
        self._ended(error)

    def not_sent(self, error: NotSent) -> NotSent:
        """It had no place: gives the error for the caller to raise."""
        self._tell(error)
        return error

    def _tell(self, error: PublishError | None) -> None:
        self._bus._middleware.published(self.message, error, time.monotonic() - self._began)

    def _ended(self, error: PublishError | None) -> None:
        raise NotImplementedError


class Asking(Sending):
    """The publish of a request: its failure is told to the asker."""

    __slots__ = ("_failed",)

    def __init__(
        self,
        bus: BusCore,
        window: Leavable,
        message: Message,
        deadline: float,
        failed: Callable[[PublishError], None],
    ) -> None:
        self._bus = bus
        self._window = window
        self._began = time.monotonic()
        self.deadline = deadline
        self.message = message
        self._event_type = object
        self._mandatory = True
        self._failed = failed

    def _ended(self, error: PublishError | None) -> None:
        if error is not None:
            self._failed(error)
