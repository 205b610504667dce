"""The inbox for asyncio."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from eventbus_outbox.sql import Dialect, drive_async, engine_for, on_async, quiet_text

from eventbus import AlreadyHandled, ConfigurationError, Delivery
from eventbus_inbox._cleaning import STEP, WEEK, Cleaning
from eventbus_inbox._table import InboxTable, key_of

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

log = logging.getLogger("eventbus.inbox")


class AsyncInbox:
    """Remembers the messages that were handled, as :class:`eventbus_inbox.Inbox` does, for coroutines as handlers.

    ``database`` is an AsyncEngine or an async_sessionmaker of SQLAlchemy, or the URL of an engine. The other parameters
    are those of the inbox for threads.
    """

    def __init__(
        self, database: Any, *, table: str = "eventbus_inbox", keep: float = WEEK, clean_every: float = 60.0
    ) -> None:
        if keep <= 0 or clean_every < 0:
            raise ConfigurationError("an inbox wants keep > 0 and clean_every >= 0")
        self._table = InboxTable(table)
        self._keep = keep
        self._cleaning = Cleaning(clean_every)
        self._sessions = _sorted_out(database)

    # -- dependencies of handlers -----------------------------------------------------------------------

    async def session(self, delivery: Delivery) -> AsyncIterator[AsyncSession]:
        """A dependency: an AsyncSession in the delivery's transaction. Leave the commit to the inbox."""
        async with self._sessions() as session, session.begin():
            await self._first(session, delivery)
            yield session
        await self._clean_if_due()

    async def connection(self, delivery: Delivery) -> AsyncIterator[AsyncConnection]:
        """A dependency: an AsyncConnection in the delivery's transaction."""
        async with self._sessions() as session, session.begin():
            await self._first(session, delivery)
            yield await session.connection()
        await self._clean_if_due()

    async def _first(self, session: Any, delivery: Delivery) -> None:
        if not await self.record(session, delivery):
            raise AlreadyHandled(f"{delivery.id} has been handled by {delivery.subscription.name}")

    # -- by hand ----------------------------------------------------------------------------------------

    async def record(self, session: Any, delivery: Delivery) -> bool:
        """Write down, in a transaction of yours, that a delivery's message is handled; False: it was already.

        ``session`` is an AsyncSession or AsyncConnection.
        """
        execution = await on_async(session)
        return await drive_async(self._table.record(execution.dialect, key=key_of(delivery)), execution)

    async def create(self, session: Any) -> None:
        """Make the table, if there is none; you commit."""
        execution = await on_async(session)
        await drive_async(self._table.create(execution.dialect), execution)

    def definition(self, dialect: Dialect) -> list[str]:
        """The SQL statements that make the table, for migrations; ``dialect`` is postgresql or sqlite."""
        return self._table.definition(dialect)

    def table(self, metadata: MetaData) -> Table:
        """The table as one of SQLAlchemy's, in ``metadata``: so that Alembic's autogenerate knows it."""
        return self._table.in_metadata(metadata)

    async def clean(self) -> int:
        """Forget all ids that are old enough, in small transactions; gives how many."""
        whole = 0
        while True:
            removed = await self._clean_step()
            whole += removed
            if removed < STEP:
                return whole

    async def _clean_step(self) -> int:
        async with self._sessions() as session, session.begin():
            execution = await on_async(session)
            return await drive_async(self._table.clean(execution.dialect, keep=self._keep, size=STEP), execution)

    async def _clean_if_due(self) -> None:
        if not self._cleaning.take():
            return
        try:
            self._cleaning.ended(await self._clean_step(), STEP)
        except Exception as error:  # the delivery is handled, whatever becomes of old ids
            log.warning("old ids could not be removed from the inbox: %s", quiet_text(error))


def _sorted_out(database: Any) -> Any:
    """What gives sessions."""
    if isinstance(database, str):
        database = engine_for(database, asyncio=True)
    from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

    if isinstance(database, AsyncEngine):
        return async_sessionmaker(database)
    if isinstance(database, async_sessionmaker):
        return database
    raise ConfigurationError(
        "an async inbox's database is an AsyncEngine or an async_sessionmaker of SQLAlchemy, or a URL, not "
        f"{type(database).__name__}"
    )
