"""The application's side: events are stored in its own transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Unpack

from eventbus import ConfigurationError, Exchange, Message
from eventbus._bus._core import BusCore
from eventbus._events import is_event, spec_of
from eventbus._outgoing import PublishKeywords
from eventbus_outbox._rows import Failure, Lag
from eventbus_outbox._stored import Stored
from eventbus_outbox._table import OutboxTable
from eventbus_outbox.sql import Dialect, drive, drive_async, on, on_async

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table


class _Outbox:
    """What both outboxes share: making messages, and the table."""

    def __init__(self, bus: BusCore, *, table: str = "eventbus_outbox", notify: bool = True) -> None:
        self._bus = bus
        self._table = OutboxTable(table, notify=notify)
        self._exchanges: dict[str, Exchange | None] = {}

    def definition(self, dialect: Dialect) -> list[str]:
        """The SQL statements that make the table, for migrations; ``dialect`` is postgresql or sqlite."""
        return self._table.definition(dialect)

    def table(self, metadata: MetaData) -> Table:
        """The table as one of SQLAlchemy's, in ``metadata``: so that Alembic's autogenerate knows it."""
        from eventbus_outbox._sqlalchemy import outbox_table

        return outbox_table(self._table.name, metadata)

    def _stored(self, event: object, options: PublishKeywords) -> Stored:
        if "timeout" in options:
            raise ConfigurationError("an outbox knows no timeout: the relay tries until the broker has confirmed")
        mandatory = options.pop("mandatory", None)
        if mandatory is None and is_event(type(event)):
            mandatory = spec_of(type(event)).mandatory
        message = self._bus.message(event, **options)
        return Stored(message=message, exchange=self._exchange(message.exchange), mandatory=mandatory)

    def _exchange(self, name: str) -> Exchange | None:
        if name not in self._exchanges:
            known = (exchange for exchange in self._bus.topology().exchanges if exchange.name == name)
            self._exchanges[name] = next(known, None)
        return self._exchanges[name]


class Outbox(_Outbox):
    """Stores events in the transaction in which their reason happens: both are there after the commit, or neither.

    ``session`` is a Session or Connection of SQLAlchemy 2, or a DB-API connection (sqlite3, psycopg); its transaction
    is yours, so nothing is stored before you commit. The database's errors are raised as they are. A relay
    (:class:`eventbus_outbox.Relay`, or ``eventbus outbox relay``) publishes what was committed.

    :param bus: makes the messages; it need not be connected, or ever started.
    :param table: the outbox's table; one of another schema is ``schema.table``.
    :param notify: whether an event tells waiting relays of itself where the database is PostgreSQL. Commits that do so
        happen one after the other, so that very many writers are quicker without; the relays then look once a second.
    """

    def add(self, session: Any, event: object, /, **options: Unpack[PublishKeywords]) -> Message:
        """Store an event, and return its message, whose id will not change any more.

        Takes what ``bus.message`` takes. Events of one ``key`` are relayed in the order of these calls, as long as
        transactions that add for this key do not overlap (those that lock the key's row do not).

        :raises NotSent: the event cannot be encoded.
        :raises ConfigurationError: this is no such session, or it commits every statement by itself.
        """
        stored = self._stored(event, options)
        execution = on(session)
        drive(self._table.add(execution.dialect, stored), execution)
        return stored.message

    def create(self, session: Any) -> None:
        """Make the table, if there is none; you commit."""
        execution = on(session)
        drive(self._table.create(execution.dialect), execution)

    def lag(self, session: Any) -> Lag:
        """How much waits."""
        execution = on(session)
        return drive(self._table.lag(execution.dialect), execution)

    def failures(self, session: Any, *, limit: int = 100) -> list[Failure]:
        """Messages that could not be published so far, the oldest first."""
        execution = on(session)
        return drive(self._table.failures(execution.dialect, limit=limit), execution)

    def retry(self, session: Any, *, ids: Iterable[int] | None = None) -> int:
        """Have messages that were set aside tried again (``ids`` None: all); gives how many. You commit."""
        execution = on(session)
        return drive(self._table.retry(execution.dialect, ids=ids), execution)

    def discard(self, session: Any, *, ids: Iterable[int] | None = None) -> int:
        """Delete messages that were set aside (``ids`` None: all); gives how many. You commit."""
        execution = on(session)
        return drive(self._table.discard(execution.dialect, ids=ids), execution)


class AsyncOutbox(_Outbox):
    """As :class:`eventbus_outbox.Outbox`, over an AsyncSession or AsyncConnection of SQLAlchemy."""

    async def add(self, session: Any, event: object, /, **options: Unpack[PublishKeywords]) -> Message:
        """Store an event, and return its message, whose id will not change any more.

        Takes what ``bus.message`` takes. Events of one ``key`` are relayed in the order of these calls, as long as
        transactions that add for this key do not overlap (those that lock the key's row do not).

        :raises NotSent: the event cannot be encoded.
        :raises ConfigurationError: this is no such session, or it commits every statement by itself.
        """
        stored = self._stored(event, options)
        execution = await on_async(session)
        await drive_async(self._table.add(execution.dialect, stored), execution)
        return stored.message

    async def create(self, session: Any) -> None:
        """Make the table, if there is none; you commit."""
        execution = await on_async(session)
        await drive_async(self._table.create(execution.dialect), execution)

    async def lag(self, session: Any) -> Lag:
        """How much waits."""
        execution = await on_async(session)
        return await drive_async(self._table.lag(execution.dialect), execution)

    async def failures(self, session: Any, *, limit: int = 100) -> list[Failure]:
        """Messages that could not be published so far, the oldest first."""
        execution = await on_async(session)
        return await drive_async(self._table.failures(execution.dialect, limit=limit), execution)

    async def retry(self, session: Any, *, ids: Iterable[int] | None = None) -> int:
        """Have messages that were set aside tried again (``ids`` None: all); gives how many. You commit."""
        execution = await on_async(session)
        return await drive_async(self._table.retry(execution.dialect, ids=ids), execution)

    async def discard(self, session: Any, *, ids: Iterable[int] | None = None) -> int:
        """Delete messages that were set aside (``ids`` None: all); gives how many. You commit."""
        execution = await on_async(session)
        return await drive_async(self._table.discard(execution.dialect, ids=ids), execution)
