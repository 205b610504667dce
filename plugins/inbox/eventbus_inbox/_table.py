"""The inbox's table, and all that is done with it, as steps."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from eventbus_outbox.sql import Dialect, Statement, Steps, now, table_name

from eventbus import Delivery

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table

MAX_TEXT = 255
"""Longer ones, which only strangers send, are stored as a digest: an index takes no text of any length."""

_CREATE: dict[Dialect, str] = {
    "postgresql": """
CREATE TABLE IF NOT EXISTS {table} (
    subscription TEXT NOT NULL,
    source TEXT NOT NULL,
    message_id TEXT NOT NULL,
    handled DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (subscription, source, message_id)
)""",
    "sqlite": """
CREATE TABLE IF NOT EXISTS {table} (
    subscription TEXT NOT NULL,
    source TEXT NOT NULL,
    message_id TEXT NOT NULL,
    handled DOUBLE NOT NULL,
    PRIMARY KEY (subscription, source, message_id)
)""",
}
_INDEX = "CREATE INDEX IF NOT EXISTS {index} ON {table} (handled)"
# Waits for a transaction that handles the same message now, and finds its row if it commits.
_INSERT = (
    "INSERT INTO {table} (subscription, source, message_id, handled) "
    "VALUES (:subscription, :source, :message_id, {now}) ON CONFLICT DO NOTHING RETURNING 1"
)
_CLEAN: dict[Dialect, str] = {
    "postgresql": """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {table} WHERE handled < {now} - CAST(:keep AS double precision)
    ORDER BY handled LIMIT CAST(:size AS bigint) FOR UPDATE SKIP LOCKED
)) RETURNING 1""",
    "sqlite": """
DELETE FROM {table} WHERE rowid IN (
    SELECT rowid FROM {table} WHERE handled < {now} - CAST(:keep AS float) ORDER BY handled LIMIT :size
) RETURNING 1""",
}


class Key(NamedTuple):
    """What is handled once: a message, at a subscription.

    CloudEvents 1.0 promises ids to be unique within a source only.
    """

    subscription: str
    source: str
    message_id: str


def key_of(delivery: Delivery) -> Key:
    """The key of a delivery."""
    subscription = delivery.subscription
    # Every instance of a broadcast has a queue of its own, and so its own copy of a message.
    name = subscription.name if subscription.group is not None else delivery.queue
    return Key(_bounded(name), _bounded(delivery.message.source), _bounded(delivery.id))


def _bounded(text: str) -> str:
    if len(text) <= MAX_TEXT and "\x00" not in text:  # PostgreSQL's text has no NUL
        return text
    return "sha256:" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


class InboxTable:
    """The steps, for a table of this name. :raises ConfigurationError: it is no name for a table."""

    def __init__(self, name: str) -> None:
        self.name = table_name(name)

    def _sql(self, template: str, dialect: Dialect) -> str:
        index = self.name.rpartition(".")[2] + "_handled"
        return template.format(table=self.name, index=index, now=now(dialect)).strip()

    def definition(self, dialect: Dialect) -> list[str]:
        """The statements that make the table."""
        return [self._sql(_CREATE[dialect], dialect), self._sql(_INDEX, dialect)]

    def create(self, dialect: Dialect) -> Steps[None]:
        """Make the table, if there is none."""
        for sql in self.definition(dialect):
            yield Statement(sql)

    def in_metadata(self, metadata: MetaData) -> Table:
        """The same table in the words of SQLAlchemy."""
        from sqlalchemy import Column, Double, Index, Table, Text

        schema, _, plain = self.name.rpartition(".")
        table = Table(
            plain,
            metadata,
            Column("subscription", Text, primary_key=True),
            Column("source", Text, primary_key=True),
            Column("message_id", Text, primary_key=True),
            Column("handled", Double, nullable=False),
            schema=schema or None,
        )
        Index(f"{plain}_handled", table.c.handled)
        return table

    def record(self, dialect: Dialect, *, key: Key) -> Steps[bool]:
        """Write down that a message is handled; False: it was already."""
        rows = yield Statement(self._sql(_INSERT, dialect), key._asdict())
        return bool(rows)

    def clean(self, dialect: Dialect, *, keep: float, size: int) -> Steps[int]:
        """Forget up to ``size`` messages that were handled more than ``keep`` seconds ago; gives how many."""
        rows = yield Statement(self._sql(_CLEAN[dialect], dialect), {"keep": keep, "size": size})
        return len(rows)
