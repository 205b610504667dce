"""The socket under aiormq: a stream whose bytes pass the lane first.

The seam is aiormq's ``TransportFactory``, which opens the socket that aiormq then speaks on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiormq.connection import TransportFactory
from yarl import URL

from eventbus_rabbitmq._port import Way
from eventbus_rabbitmq._tcp import tune
from eventbus_rabbitmq._wire.lane import Lane, LaneError

if TYPE_CHECKING:
    from eventbus_rabbitmq._aio_pika import AioPikaSession


class LaneProtocol(asyncio.StreamReaderProtocol):
    """A stream whose bytes pass the lane first; tells of the end of the connection by itself."""

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop, session: AioPikaSession) -> None:
        super().__init__(reader, loop=loop)
        self._reader = reader
        self._session = session

    def data_received(self, data: bytes) -> None:
        """Bytes of the broker."""
        try:
            self._session.lane.feed(data)
        except LaneError as error:
            self._session.fail(error)

    def pass_on(self, data: bytes) -> None:
        """Frames that are aiormq's."""
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        super().connection_lost(exc)
        self._session.ended(exc)


class SocketFactory(TransportFactory):
    """Opens the socket: called by aiormq, which speaks on what it returns."""

    def __init__(self, session: AioPikaSession, way: Way) -> None:
        self._session = session
        self._way = way

    async def create(self, url: URL, **ignored: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, by TLS if there is a context for it."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = LaneProtocol(reader, loop, self._session)
        self._session.lane = Lane(protocol.pass_on, self._session.events.blocked)
        transport, _ = await loop.create_connection(
            lambda: protocol,
            self._way.host,
            self._way.port,
            ssl=self._way.context,
            server_hostname=self._way.server_name,
        )
        sock = transport.get_extra_info("socket")
        if sock is not None:
            tune(sock)
        self._session.transport = transport
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
