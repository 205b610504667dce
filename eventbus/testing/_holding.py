"""A transport around another one that keeps the outcomes of publishes back until it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

from eventbus._errors import PublishError
from eventbus.transport import Capabilities, LinkSettings, Message, StatusListener, Transport

Done = Callable[[PublishError | None], None]


class HoldingTransport:
    """Confirms come when :meth:`release` is called, as from a broker that is slow: for back-pressure."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._waiting: list[tuple[Done, PublishError | None]] = []
        self._holding = True

    @classmethod
    def from_url(cls, url: str) -> Self:
        """It is made around a transport, never from a URL."""
        raise NotImplementedError

    @property
    def capabilities(self) -> Capabilities:
        """Those of the transport inside."""
        return self._inner.capabilities

    def sync_link(self, settings: LinkSettings, on_status: StatusListener) -> Any:
        """A link for threads."""
        return _HoldingLink(self._inner.sync_link(settings, on_status), self)

    def async_link(self, settings: LinkSettings, on_status: StatusListener) -> Any:
        """A link for the running loop."""
        return _HoldingLink(self._inner.async_link(settings, on_status), self)

    @property
    def held(self) -> int:
        """How many outcomes are kept back."""
        return len(self._waiting)

    def end(self, done: Done, error: PublishError | None) -> None:
        """An outcome is there."""
        with self._lock:
            if self._holding:
                self._waiting.append((done, error))
                return
        done(error)

    def release(self) -> None:
        """Hand on what was kept back, and everything from now on."""
        with self._lock:
            self._holding = False
            waiting, self._waiting = self._waiting, []
        for done, error in waiting:
            done(error)


class _HoldingLink:
    def __init__(self, link: Any, owner: HoldingTransport) -> None:
        self._link = link
        self._owner = owner

    def publish(self, message: Message, *, deadline: float, done: Done) -> None:
        self._link.publish(message, deadline=deadline, done=lambda error: self._owner.end(done, error))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)
