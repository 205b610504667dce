"""Connections of our own, for threads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Literal, Protocol, TypeVar

from eventbus import ConfigurationError
from eventbus_outbox.sql._executing import DBAPIExecution, Execution, SQLAlchemyExecution, dialect_named, drive
from eventbus_outbox.sql._statements import Dialect, Statement, Steps

T = TypeVar("T")

# Claims must see what others have committed meanwhile, whatever the application's own default is.
ISOLATION = {"postgresql": "READ COMMITTED", "sqlite": "SERIALIZABLE"}


class Transactions(Protocol):
    """Where transactions come from."""

    def transaction(self) -> AbstractContextManager[Execution]:
        """One transaction: committed at the end of the block, rolled back when the block raises."""


class Database(Transactions, Protocol):
    """A database that we connect to. ``run`` may be called from any thread."""

    def kept(self) -> KeptConnection:
        """A connection for one thread that makes one transaction after the other."""

    def driver_connection(self) -> Any:
        """A new connection of the driver, which the caller closes."""

    def close(self) -> None:
        """Close what is ours."""


class KeptConnection(Transactions, Protocol):
    """One thread's connection: made anew after an error."""

    def close(self) -> None:
        """Close it."""


def run(source: Transactions, steps: Callable[[Dialect], Steps[T]]) -> T:
    """All steps in one transaction; gives their result."""
    with source.transaction() as execution:
        return drive(steps(execution.dialect), execution)


class SQLAlchemyDatabase:
    """By an ``Engine``, from whose pool connections come."""

    def __init__(self, engine: Any, *, ours: bool = False) -> None:
        level = ISOLATION[dialect_named(engine.dialect.name)]
        self._engine = engine.execution_options(isolation_level=level)
        self._ours = ours

    @contextmanager
    def transaction(self) -> Iterator[Execution]:
        """One transaction."""
        with self._engine.begin() as connection:
            yield SQLAlchemyExecution(connection)

    def kept(self) -> KeptConnection:
        """The pool keeps them."""
        return PooledConnection(self)

    def close(self) -> None:
        """Empty the pool, if the engine is ours."""
        if self._ours:
            self._engine.dispose()

    def driver_connection(self) -> Any:
        """A connection outside the pool."""
        proxy = self._engine.raw_connection()
        connection = proxy.driver_connection
        proxy.detach()
        return connection


class PooledConnection:
    """A connection of the pool's for each transaction."""

    def __init__(self, source: SQLAlchemyDatabase) -> None:
        self.transaction = source.transaction

    def close(self) -> None:
        """The pool has them all."""


class DBAPIDatabase:
    """By a function that connects, as ``lambda: sqlite3.connect("app.db")``."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect

    @contextmanager
    def transaction(self) -> Iterator[Execution]:
        """One transaction on a connection of its own."""
        kept = self.kept()
        try:
            with kept.transaction() as execution:
                yield execution
        finally:
            kept.close()

    def kept(self) -> KeptDBAPI:
        """A connection that stays."""
        return KeptDBAPI(self._connect)

    def driver_connection(self) -> Any:
        """What the function gives."""
        return self._connect()

    def close(self) -> None:
        """Nothing of ours is left."""


class KeptDBAPI:
    """A DB-API connection that is used again, until something goes wrong with it."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._connection: Any = None

    @contextmanager
    def transaction(self) -> Iterator[Execution]:
        """One transaction."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            execution = DBAPIExecution(self._connection)
            with transaction_on(execution):
                if execution.dialect == "postgresql":
                    execution.execute(Statement("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"))
                yield execution
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it; the next transaction connects anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it may be gone already
                connection.close()


@contextmanager
def transaction_on(execution: DBAPIExecution) -> Iterator[None]:
    """A transaction on a DB-API connection, whichever way that was set up."""
    connection = execution.connection
    sqlite = execution.dialect == "sqlite"
    by_hand = sqlite or bool(getattr(connection, "autocommit", False))
    if sqlite and not connection.in_transaction:
        # With the write lock from the start: one taken later may fail with what has been read already.
        execution.execute(Statement("BEGIN IMMEDIATE"))
    elif by_hand and not sqlite:
        execution.execute(Statement("BEGIN"))
    try:
        yield
    except BaseException:
        with suppress(Exception):  # the connection may be gone, and with it the transaction
            _end(execution, "ROLLBACK", by_hand=by_hand)
        raise
    _end(execution, "COMMIT", by_hand=by_hand)


def _end(execution: DBAPIExecution, how: Literal["COMMIT", "ROLLBACK"], *, by_hand: bool) -> None:
    connection = execution.connection
    if not by_hand:
        (connection.commit if how == "COMMIT" else connection.rollback)()
    elif execution.dialect != "sqlite" or connection.in_transaction:
        execution.execute(Statement(how))


def database(source: Any) -> Database:
    """A database by an Engine of SQLAlchemy, its URL, or a function that gives DB-API connections.

    :raises ConfigurationError: it is none of these.
    """
    if isinstance(source, str):
        return SQLAlchemyDatabase(engine_for(source), ours=True)
    sqlalchemy = sys.modules.get("sqlalchemy")
    if sqlalchemy is not None and isinstance(source, sqlalchemy.Engine):
        return SQLAlchemyDatabase(source)
    if hasattr(source, "sync_engine"):
        raise ConfigurationError("an AsyncEngine is for asyncio, and this is for threads")
    if callable(source):
        return DBAPIDatabase(source)
    raise ConfigurationError(
        "a database is an Engine of SQLAlchemy, its URL, or a function that gives DB-API connections, not "
        f"{type(source).__name__}"
    )


def engine_for(url: str, *, asyncio: bool = False) -> Any:
    """An engine by its URL. :raises ConfigurationError: SQLAlchemy or its driver is missing, or the URL does not do."""
    try:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import ArgumentError, InvalidRequestError
        from sqlalchemy.ext.asyncio import create_async_engine
    except ImportError:
        raise ConfigurationError(
            'a database by its URL needs SQLAlchemy; install it with: pip install "eventbus-outbox[sqlalchemy]"'
        ) from None
    try:
        if asyncio:
            return create_async_engine(url)
        engine = create_engine(url)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"the database's driver is not installed: {error.name}") from None
    except InvalidRequestError as error:
        raise ConfigurationError(f"this database URL does not do for asyncio: {error}") from None
    except (ArgumentError, ValueError):  # whose text may be the URL, with its password
        what = "the database URL is not one of SQLAlchemy, such as postgresql+psycopg://host/name"
        raise ConfigurationError(what) from None
    if engine.dialect.is_async:
        raise ConfigurationError(f"the driver {engine.dialect.driver} is for asyncio, and this is for threads")
    return engine


def is_for_asyncio(url: str) -> bool:
    """Whether the URL names a driver that is for asyncio alone."""
    try:
        from sqlalchemy import make_url

        return bool(make_url(url).get_dialect().is_async)
    except Exception:  # engine_for says what is wrong
        return False
