"""How the outbox and the inbox speak with databases: statements as values, run over SQLAlchemy or plain DB-API.

What is to be done is written once, as generators that yield statements and are sent their rows. They are driven over a
connection of the application (:func:`on`, :func:`on_async`) or over connections of our own (:class:`Database`,
:class:`AsyncDatabase`). Neither SQLAlchemy nor a driver is imported before the application has done so. Used by
eventbus-outbox and eventbus-inbox; not meant for applications.
"""

from __future__ import annotations

from eventbus_outbox.sql._async_databases import AsyncDatabase, async_database, run_async
from eventbus_outbox.sql._databases import (
    Database,
    KeptConnection,
    database,
    engine_for,
    is_for_asyncio,
    run,
    transaction_on,
)
from eventbus_outbox.sql._executing import (
    AsyncExecution,
    DBAPIExecution,
    Execution,
    dialect_named,
    drive,
    drive_async,
    on,
    on_async,
)
from eventbus_outbox.sql._statements import (
    Dialect,
    Statement,
    Steps,
    ids_in,
    ids_text,
    now,
    placed,
    quiet_text,
    table_name,
)

__all__ = [
    "AsyncDatabase", "AsyncExecution", "DBAPIExecution", "Database", "Dialect", "Execution", "KeptConnection",
    "Statement", "Steps", "async_database", "database", "dialect_named", "drive", "drive_async", "engine_for", "ids_in",
    "ids_text", "is_for_asyncio", "now", "on", "on_async", "placed", "quiet_text", "run", "run_async", "table_name",
    "transaction_on",
]  # fmt: skip
