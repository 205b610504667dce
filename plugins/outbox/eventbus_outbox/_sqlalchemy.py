"""The table in the words of SQLAlchemy, for the application's metadata. The statements are those of _table.py."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Identity, Index, Integer, LargeBinary, MetaData, Table, Text, text


def outbox_table(name: str, metadata: MetaData) -> Table:
    """The outbox's table, as ``create`` makes it."""
    schema, _, plain = name.rpartition(".")
    table = Table(
        plain,
        metadata,
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), Identity(), primary_key=True),
        Column("message_id", Text, nullable=False),
        Column("ordering_key", Text),
        Column("message", LargeBinary, nullable=False),
        Column("created", Double, nullable=False),
        Column("available", Double, nullable=False, server_default=text("0")),
        Column("claim", Text),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        Column("error", Text),
        Column("set_aside", Double),
        schema=schema or None,
        sqlite_autoincrement=True,
    )
    held = text("available > 0")
    Index(f"{plain}_held", table.c.available, table.c.ordering_key, postgresql_where=held, sqlite_where=held)
    return table
