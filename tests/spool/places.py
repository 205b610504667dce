"""Transports for these tests: one whose broker can be away, and one whose links have a spool around them."""

from __future__ import annotations

from typing import Any

from eventbus_memory import MemoryTransport

from eventbus import ConnectionFailed, Message, Spool
from eventbus._spool._async_link import SpoolAsyncLink
from eventbus._spool._sync_link import SpoolSyncLink
from eventbus._spool._values import settings_of
from eventbus.transport import LinkSettings, StatusListener

AWAY = ConnectionFailed("nobody answers there")


def _leaving(link: Any, transport: FlakyTransport) -> Any:
    """The link, which finds no broker while that is away."""
    opened = link.open

    def open() -> None:
        opened()
        if transport.is_away:
            with transport.broker.step() as core:
                link.cut(core, AWAY)

    link.open = open
    return link


class FlakyTransport(MemoryTransport):
    """A broker in memory that can be away: its links are not connected then."""

    def __init__(self, *, away: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.is_away = away

    def sync_link(self, settings: LinkSettings, on_status: StatusListener) -> Any:
        return _leaving(super().sync_link(settings, on_status), self)

    def async_link(self, settings: LinkSettings, on_status: StatusListener) -> Any:
        return _leaving(super().async_link(settings, on_status), self)

    def leave(self) -> None:
        """The broker goes away."""
        self.is_away = True
        with self.broker.step() as core:
            for connection in list(self.broker._connections):
                connection.cut(core, AWAY)

    def come_back(self) -> None:
        """It is there again."""
        self.is_away = False
        with self.broker.step() as core:
            for connection in list(self.broker._connections):
                connection.come_back(core)


class SpooledTransport(MemoryTransport):
    """Links with a spool around them, as a transport, so that a suite for transports can look at them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.store = MemoryTransport()

    def sync_link(self, settings: LinkSettings, on_status: StatusListener) -> Any:
        spool = settings_of(Spool(self.store, volatile=True), settings.service)
        return SpoolSyncLink(_Inner(self), settings, spool, on_status, lambda health: None, _unheard)

    def async_link(self, settings: LinkSettings, on_status: StatusListener) -> Any:
        spool = settings_of(Spool(self.store, volatile=True), settings.service)
        return SpoolAsyncLink(_Inner(self), settings, spool, on_status, lambda health: None, _unheard)


class _Inner:
    """The transport below."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.capabilities = transport.capabilities
        self._transport = transport

    @classmethod
    def from_url(cls, url: str) -> Any:
        raise NotImplementedError

    def sync_link(self, settings: LinkSettings, on_status: StatusListener) -> Any:
        return MemoryTransport.sync_link(self._transport, settings, on_status)

    def async_link(self, settings: LinkSettings, on_status: StatusListener) -> Any:
        return MemoryTransport.async_link(self._transport, settings, on_status)


def _unheard(message: Message) -> None:
    raise AssertionError("nothing of a connected bus is sent from the spool")
