"""The inbox for threads."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from eventbus_outbox.sql import DBAPIExecution, Dialect, drive, engine_for, on, quiet_text, transaction_on

from eventbus import AlreadyHandled, ConfigurationError, Delivery
from eventbus_inbox._cleaning import STEP, WEEK, Cleaning
from eventbus_inbox._table import InboxTable, key_of

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table
    from sqlalchemy.orm import Session

log = logging.getLogger("eventbus.inbox")


class Inbox:
    """Remembers the messages that were handled, in the transaction of what handling them did.

    Handlers get that transaction as a dependency, :meth:`session` or :meth:`connection`. It begins by writing down the
    message's id for this subscription. Was that there already, then the handler is not run and the delivery is acked
    (:class:`eventbus.AlreadyHandled`). It commits when the handler has returned, before the delivery is acked, and
    rolls back when the handler raises: what is tried again finds no trace of the attempt.

    Effects outside of this transaction (mails, calls of other services) are not covered. Old ids are forgotten a few at
    a time, after a delivery.

    :param database: an Engine or a sessionmaker of SQLAlchemy, the URL of an engine, or a function that gives DB-API
        connections (or context managers of them, as ``pool.connection`` of psycopg_pool).
    :param table: the inbox's table; one of another schema is ``schema.table``. Services may share one.
    :param keep: seconds that ids are remembered: longer than a message may wait in a queue between two deliveries.
    :param clean_every: seconds between two looks for ids to forget.
    :raises ConfigurationError: this is no such database, or no name for a table.
    """

    def __init__(
        self, database: Any, *, table: str = "eventbus_inbox", keep: float = WEEK, clean_every: float = 60.0
    ) -> None:
        if keep <= 0 or clean_every < 0:
            raise ConfigurationError("an inbox wants keep > 0 and clean_every >= 0")
        self._table = InboxTable(table)
        self._keep = keep
        self._cleaning = Cleaning(clean_every)
        self._sessions, self._connect = _sorted_out(database)

    # -- dependencies of handlers -----------------------------------------------------------------------

    def session(self, delivery: Delivery) -> Iterator[Session]:
        """A dependency: a Session of SQLAlchemy in the delivery's transaction. Leave the commit to the inbox."""
        if self._sessions is None:
            raise ConfigurationError("this inbox has no sessions: give it an Engine or a sessionmaker of SQLAlchemy")
        with self._transaction() as session:
            self._first(session, delivery)
            yield session
        self._clean_if_due()

    def connection(self, delivery: Delivery) -> Iterator[Any]:
        """A dependency: a Connection of SQLAlchemy, or a DB-API connection, in the delivery's transaction."""
        with self._transaction() as session:
            self._first(session, delivery)
            yield session if self._sessions is None else session.connection()
        self._clean_if_due()

    def _first(self, session: Any, delivery: Delivery) -> None:
        if not self.record(session, delivery):
            raise AlreadyHandled(f"{delivery.id} has been handled by {delivery.subscription.name}")

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """A Session, or a DB-API connection, in a transaction that ends with the block."""
        if self._sessions is not None:
            with self._sessions() as session, session.begin():
                yield session
            return
        with ExitStack() as ends:
            connection = self._connect()
            if hasattr(connection, "cursor"):
                ends.callback(connection.close)
            else:  # a pool lends it
                connection = ends.enter_context(connection)
            with transaction_on(DBAPIExecution(connection)):
                yield connection

    # -- by hand ----------------------------------------------------------------------------------------

    def record(self, session: Any, delivery: Delivery) -> bool:
        """Write down, in a transaction of yours, that a delivery's message is handled; False: it was already.

        ``session`` is a Session or Connection of SQLAlchemy, or a DB-API connection.
        """
        execution = on(session)
        return drive(self._table.record(execution.dialect, key=key_of(delivery)), execution)

    def create(self, session: Any) -> None:
        """Make the table, if there is none; you commit."""
        execution = on(session)
        drive(self._table.create(execution.dialect), execution)

    def definition(self, dialect: Dialect) -> list[str]:
        """The SQL statements that make the table, for migrations; ``dialect`` is postgresql or sqlite."""
        return self._table.definition(dialect)

    def table(self, metadata: MetaData) -> Table:
        """The table as one of SQLAlchemy's, in ``metadata``: so that Alembic's autogenerate knows it."""
        return self._table.in_metadata(metadata)

    def clean(self) -> int:
        """Forget all ids that are old enough, in small transactions; gives how many. From any thread."""
        whole = 0
        while True:
            removed = self._clean_step()
            whole += removed
            if removed < STEP:
                return whole

    def _clean_step(self) -> int:
        with self._transaction() as session:
            execution = on(session)
            return drive(self._table.clean(execution.dialect, keep=self._keep, size=STEP), execution)

    def _clean_if_due(self) -> None:
        if not self._cleaning.take():
            return
        try:
            self._cleaning.ended(self._clean_step(), STEP)
        except Exception as error:  # the delivery is handled, whatever becomes of old ids
            log.warning("old ids could not be removed from the inbox: %s", quiet_text(error))


def _sorted_out(database: Any) -> tuple[Any, Callable[[], Any]]:
    """What gives sessions, if anything does, and else what gives DB-API connections."""
    if isinstance(database, str):
        database = engine_for(database)
    sqlalchemy = sys.modules.get("sqlalchemy")
    if sqlalchemy is not None:
        from sqlalchemy.orm import sessionmaker

        if isinstance(database, sqlalchemy.Engine):
            return sessionmaker(database), _nothing
        if isinstance(database, sessionmaker):
            return database, _nothing
    if hasattr(database, "sync_engine") or not callable(database):
        raise ConfigurationError(
            "an inbox's database is an Engine or a sessionmaker of SQLAlchemy, a URL, or a function that gives DB-API "
            f"connections, not {type(database).__name__}"
        )
    return None, database


def _nothing() -> Any:
    raise AssertionError("an inbox with sessions connects by them")
