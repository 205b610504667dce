"""Connections of our own, for asyncio."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from eventbus import ConfigurationError
from eventbus_outbox.sql._databases import ISOLATION, engine_for
from eventbus_outbox.sql._executing import AsyncExecution, AsyncSQLAlchemyExecution, dialect_named, drive_async
from eventbus_outbox.sql._statements import Dialect, Steps

T = TypeVar("T")


class AsyncDatabase:
    """By an ``AsyncEngine``, from whose pool connections come."""

    def __init__(self, engine: Any, *, ours: bool = False) -> None:
        level = ISOLATION[dialect_named(engine.dialect.name)]
        self._engine = engine.execution_options(isolation_level=level)
        self._ours = ours

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncExecution]:
        """One transaction: committed at the end of the block, rolled back when the block raises."""
        async with self._engine.begin() as connection:
            yield AsyncSQLAlchemyExecution(connection)

    async def driver_connection(self) -> Any:
        """A new connection of the driver, outside the pool, which the caller closes."""
        proxy = await self._engine.raw_connection()
        connection = proxy.driver_connection
        proxy.detach()
        return connection

    async def close(self) -> None:
        """Empty the pool, if the engine is ours."""
        if self._ours:
            await self._engine.dispose()


async def run_async(source: AsyncDatabase, steps: Callable[[Dialect], Steps[T]]) -> T:
    """All steps in one transaction; gives their result."""
    async with source.transaction() as execution:
        return await drive_async(steps(execution.dialect), execution)


def async_database(source: Any) -> AsyncDatabase:
    """A database by an AsyncEngine of SQLAlchemy, or its URL.

    :raises ConfigurationError: it is none of these.
    """
    if isinstance(source, str):
        return AsyncDatabase(engine_for(source, asyncio=True), ours=True)
    asyncio_part: Any = sys.modules.get("sqlalchemy.ext.asyncio")
    if asyncio_part is not None and isinstance(source, asyncio_part.AsyncEngine):
        return AsyncDatabase(source)
    raise ConfigurationError(f"a database is an AsyncEngine of SQLAlchemy, or its URL, not {type(source).__name__}")
