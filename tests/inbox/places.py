"""Databases of the tests, with a table in which effects are seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from eventbus_inbox import Inbox
from sqlalchemy.orm import Session

from eventbus import event
from tests.postgres import LocalPostgres


@event("bank.paid")
@dataclass(frozen=True)
class Paid:
    amount: int


INSERT = "INSERT INTO payments VALUES (5)"


@dataclass(frozen=True)
class Ledger:
    """A database with payments, and an inbox."""

    kind: str
    url: str
    async_url: str
    connect: Callable[[], Any]
    """A DB-API connection."""

    @classmethod
    def sqlite(cls, folder: Path) -> Ledger:
        file = folder / "bank.db"
        urls = f"sqlite:///{file}", f"sqlite+aiosqlite:///{file}"
        return cls("sqlite", *urls, lambda: sqlite3.connect(file, timeout=20))._prepared()

    @classmethod
    def postgresql(cls, server: LocalPostgres, *, async_driver: str = "asyncpg") -> Ledger:
        name = server.new_database()
        dsn = server.dsn(name)
        urls = server.url(name), server.url(name, async_driver)
        return cls("postgresql", *urls, lambda: psycopg.connect(dsn))._prepared()

    def _prepared(self) -> Ledger:
        self.execute("CREATE TABLE payments (amount INTEGER)")
        engine = sqlalchemy.create_engine(self.url)
        with Session(engine) as session, session.begin():
            Inbox(engine).create(session)
        engine.dispose()
        return self

    def execute(self, sql: str) -> list[Any]:
        """One statement in a transaction of its own."""
        engine = sqlalchemy.create_engine(self.url)
        try:
            with engine.begin() as connection:
                result = connection.execute(sqlalchemy.text(sql))
                return list(result) if result.returns_rows else []
        finally:
            engine.dispose()

    @property
    def payments(self) -> int:
        """How many effects there are."""
        return int(self.execute("SELECT count(*) FROM payments")[0][0])

    @property
    def ids(self) -> list[str]:
        """The messages that the inbox remembers."""
        return [row[0] for row in self.execute("SELECT message_id FROM eventbus_inbox ORDER BY handled")]
