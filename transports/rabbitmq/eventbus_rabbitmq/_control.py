"""The control channel: declarations one after the other, on a channel of their own.

A declaration that the broker refuses closes its channel; the publish and consumer channels must not be that one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from eventbus import EventBusError
from eventbus_rabbitmq._port import Channel, OpenChannel, Session, Steps

Done = Callable[[Any, EventBusError | None], None]


class Control:
    """Runs sequences of operations on a channel that is opened again when one of them broke it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channel: Channel | None = None
        self._queue: deque[tuple[Callable[[Channel], Steps[Any]], Done]] = deque()
        self._busy = False

    def run(self, steps: Callable[[Channel], Steps[Any]], done: Done, what: str = "") -> None:
        """Run ``steps(channel)`` after those before it; ``done`` gets the result or the error."""
        self._queue.append((steps, done))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        if not self._queue:
            self._busy = False
            return
        self._busy = True
        steps, done = self._queue.popleft()

        def whole() -> Steps[Any]:
            if self._channel is None:
                self._channel, _ = yield OpenChannel()
            return (yield from steps(self._channel))

        def finished(result: Any, error: Exception | None) -> None:
            if error is not None:
                self._channel = None
            try:
                done(result, error if isinstance(error, EventBusError) or error is None else EventBusError(str(error)))
            finally:
                self._next()

        self._session.run(whole(), finished)
