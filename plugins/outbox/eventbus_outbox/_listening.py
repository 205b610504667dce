"""Waiting for new rows: PostgreSQL tells of them (LISTEN), for the others somebody must look."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Any

from eventbus_outbox.sql import Database, quiet_text

log = logging.getLogger("eventbus.outbox")

CHUNK_SECONDS = 0.5
"""How long to sit in the driver before a stop is looked for."""


class Listener:
    """Pauses that a commit of the application cuts short, where driver and database can (psycopg 3)."""

    def __init__(self, database: Database, channel: str, *, listen: bool) -> None:
        self._database = database
        self._channel = channel
        self._listen = listen
        self._connection: Any = None

    def wait(self, seconds: float, stopping: threading.Event) -> None:
        """Until there may be new rows, ``stopping``, or for so long."""
        if self._listen and self._connection is None and self._open():
            return  # what was committed before we listened has not been told to us: look again first
        if self._connection is None:
            stopping.wait(seconds)
            return
        until = time.monotonic() + seconds
        try:
            while not stopping.is_set() and (left := until - time.monotonic()) > 0:
                for _ in self._connection.notifies(timeout=min(left, CHUNK_SECONDS), stop_after=1):
                    return
        except Exception as error:  # the next wait connects anew
            log.debug("outbox: listening ended: %s", quiet_text(error))
            self.close()

    def _open(self) -> bool:
        try:
            connection = self._database.driver_connection()
            if type(connection).__module__.partition(".")[0] != "psycopg":
                self._listen = False
                connection.close()
                return False
            self._connection = connection
            connection.rollback()
            connection.autocommit = True
            connection.execute(f'LISTEN "{self._channel}"')
        except Exception as error:  # the database is away: the relay finds out by itself
            log.debug("outbox: cannot listen now: %s", quiet_text(error))
            self.close()
            return False
        return True

    def close(self) -> None:
        """Listen no more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it may be gone already
                connection.close()
