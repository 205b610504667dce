"""Waiting for new rows on a loop: PostgreSQL tells of them (LISTEN), for the others somebody must look."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from eventbus_outbox.sql import AsyncDatabase, quiet_text

log = logging.getLogger("eventbus.outbox")


class AsyncListener:
    """Pauses that a commit of the application cuts short, where driver and database can (asyncpg, psycopg 3)."""

    def __init__(self, database: AsyncDatabase, channel: str, *, listen: bool) -> None:
        self._database = database
        self._channel = channel
        self._listen = listen
        self._connection: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._told = asyncio.Event()

    async def wait(self, seconds: float, stopping: asyncio.Event) -> None:
        """Until there may be new rows, ``stopping``, or for so long."""
        if self._listen and self._connection is None and await self._open():
            return  # what was committed before we listened has not been told to us: look again first
        if self._connection is None:
            await _either(seconds, stopping)
            return
        await _either(seconds, stopping, self._told)
        self._told.clear()

    async def _open(self) -> bool:
        try:
            connection = self._connection = await self._database.driver_connection()
            module = type(connection).__module__.partition(".")[0]
            if module == "asyncpg":
                connection.add_termination_listener(lambda *_: self._lost())
                await connection.add_listener(self._channel, lambda *_: self._told.set())
                return True
            if module == "psycopg":
                await connection.rollback()
                await connection.set_autocommit(True)
                await connection.execute(f'LISTEN "{self._channel}"')
                self._reading = asyncio.create_task(self._read(connection), name="eventbus-outbox-listener")
                return True
            self._listen = False
        except Exception as error:  # the database is away: the relay finds out by itself
            log.debug("outbox: cannot listen now: %s", quiet_text(error))
        await self.close()
        return False

    async def _read(self, connection: Any) -> None:
        try:
            async for _ in connection.notifies():
                self._told.set()
        except Exception as error:
            log.debug("outbox: listening ended: %s", quiet_text(error))
        self._lost()

    def _lost(self) -> None:
        """The next wait connects anew."""
        self._connection = None
        self._told.set()

    async def close(self) -> None:
        """Listen no more."""
        connection, self._connection = self._connection, None
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading})
        if connection is not None:
            with suppress(Exception):  # it may be gone already
                await connection.close()


async def _either(seconds: float, *events: asyncio.Event) -> None:
    """Until one of the events is set, or for so long."""
    if any(event.is_set() for event in events):
        return
    waiting = {asyncio.ensure_future(event.wait()) for event in events}
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
