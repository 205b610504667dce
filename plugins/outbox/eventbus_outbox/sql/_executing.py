"""Running statements over a connection that somebody else looks after: its transaction is his."""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeVar

from eventbus import ConfigurationError
from eventbus_outbox.sql._statements import Dialect, Rows, Statement, Steps, placed

T = TypeVar("T")

_AUTOCOMMIT = (
    "this connection commits every statement by itself (autocommit), so nothing holds the data and the event together; "
    "begin a transaction first"
)


class Execution(Protocol):
    """A connection that runs our statements."""

    @property
    def dialect(self) -> Dialect:
        """What kind of SQL it speaks."""

    def execute(self, statement: Statement) -> Rows:
        """Run one; gives its rows, if it has any."""


class AsyncExecution(Protocol):
    """As :class:`Execution`, for asyncio."""

    @property
    def dialect(self) -> Dialect:
        """What kind of SQL it speaks."""

    async def execute(self, statement: Statement) -> Rows:
        """Run one; gives its rows, if it has any."""


def drive(steps: Steps[T], execution: Execution) -> T:
    """Run all steps; gives their result."""
    try:
        statement = next(steps)
        while True:
            statement = steps.send(execution.execute(statement))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def drive_async(steps: Steps[T], execution: AsyncExecution) -> T:
    """Run all steps; gives their result."""
    try:
        statement = next(steps)
        while True:
            statement = steps.send(await execution.execute(statement))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


class SQLAlchemyExecution:
    """Over a ``sqlalchemy.Connection``."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.dialect = dialect_named(connection.dialect.name)

    def execute(self, statement: Statement) -> Rows:
        """Run one."""
        result = self.connection.execute(_text(statement.sql), dict(statement.params))
        return [tuple(row) for row in result] if result.returns_rows else []


class AsyncSQLAlchemyExecution:
    """Over a ``sqlalchemy.ext.asyncio.AsyncConnection``."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.dialect = dialect_named(connection.dialect.name)

    async def execute(self, statement: Statement) -> Rows:
        """Run one."""
        result = await self.connection.execute(_text(statement.sql), dict(statement.params))
        return [tuple(row) for row in result] if result.returns_rows else []


class DBAPIExecution:
    """Over a connection of a DB-API module (PEP 249)."""

    def __init__(self, connection: Any) -> None:
        module = dbapi_module(connection)
        self.connection = connection
        self.paramstyle: str = module.paramstyle
        # There is no standard way to ask, and of the databases that we know all others speak as PostgreSQL does.
        self.dialect: Dialect = "sqlite" if module.__name__ == "sqlite3" else "postgresql"

    def execute(self, statement: Statement) -> Rows:
        """Run one."""
        sql, order = placed(statement.sql, self.paramstyle)
        values: Any = dict(statement.params) if order is None else [statement.params[name] for name in order]
        cursor = self.connection.cursor()
        try:
            cursor.execute(sql, values)
            found = cursor.fetchall() if cursor.description is not None else []
        finally:
            cursor.close()
        return [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in found]


def on(connection: Any) -> Execution:
    """Over the application's Session, Connection or DB-API connection, in whatever transaction it is.

    :raises ConfigurationError: it is none of these, or it commits by itself.
    """
    sqlalchemy = sys.modules.get("sqlalchemy")  # without it, nobody can have made one of its connections
    if sqlalchemy is not None:
        if hasattr(connection, "sync_session") or hasattr(connection, "sync_connection"):
            raise ConfigurationError(f"{type(connection).__name__} is for asyncio, and this is for threads")
        if isinstance(connection, sqlalchemy.Connection):
            return SQLAlchemyExecution(_checked(connection))
        orm = sys.modules.get("sqlalchemy.orm")
        if orm is not None and isinstance(connection, (orm.Session, orm.scoped_session)):
            return SQLAlchemyExecution(_checked(connection.connection()))
    execution = DBAPIExecution(connection)
    if _commits_by_itself(connection):
        raise ConfigurationError(_AUTOCOMMIT)
    return execution


async def on_async(connection: Any) -> AsyncExecution:
    """Over the application's AsyncSession or AsyncConnection, in whatever transaction it is.

    :raises ConfigurationError: it is none of these, or it commits by itself.
    """
    asyncio_part: Any = sys.modules.get("sqlalchemy.ext.asyncio")
    if asyncio_part is not None:
        if isinstance(connection, (asyncio_part.AsyncSession, asyncio_part.async_scoped_session)):
            connection = await connection.connection()
        if isinstance(connection, asyncio_part.AsyncConnection):
            _checked(connection.sync_connection)
            return AsyncSQLAlchemyExecution(connection)
    raise ConfigurationError(f"an AsyncSession or AsyncConnection of SQLAlchemy is needed, not {_name(connection)}")


def dialect_named(name: str) -> Dialect:
    """The dialect of this name. :raises ConfigurationError: it is not one that we speak."""
    if name == "postgresql":
        return "postgresql"
    if name == "sqlite":
        return "sqlite"
    raise ConfigurationError(f"the database is PostgreSQL or SQLite, not {name}")


def dbapi_module(connection: Any) -> Any:
    """The DB-API module of a connection. :raises ConfigurationError: it has none."""
    for cls in type(connection).__mro__:
        module = sys.modules.get(cls.__module__.partition(".")[0])
        if hasattr(module, "paramstyle") and hasattr(connection, "cursor"):
            return module
    raise ConfigurationError(
        f"a Session or Connection of SQLAlchemy, or a DB-API connection, is needed, not {_name(connection)}"
    )


def _checked(connection: Any) -> Any:
    option = connection.get_execution_options().get("isolation_level")
    if option == "AUTOCOMMIT" or _commits_by_itself(connection.connection.dbapi_connection):
        raise ConfigurationError(_AUTOCOMMIT)
    return connection


def _commits_by_itself(connection: Any) -> bool:
    if hasattr(connection, "in_transaction") and hasattr(connection, "isolation_level"):  # sqlite3
        explicit = getattr(connection, "autocommit", -1)  # Python 3.12; -1 leaves it to isolation_level
        alone = connection.isolation_level is None if explicit == -1 else bool(explicit)
        return alone and not connection.in_transaction
    if getattr(connection, "autocommit", False) is True:
        info = getattr(connection, "info", None)  # psycopg: a transaction may have been begun by hand
        return getattr(info, "transaction_status", 0) == 0
    return False


def _text(sql: str) -> Any:
    import sqlalchemy

    made = _texts.get(sql)
    if made is None:
        made = _texts[sql] = sqlalchemy.text(sql)
    return made


_texts: dict[str, Any] = {}
"""Ours alone, so they are few."""


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
