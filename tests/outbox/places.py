"""Databases of the tests, each in the ways in which applications reach it, and what tests need around an outbox."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from eventbus_memory import FaultPlan, MemoryTransport
from sqlalchemy.orm import Session

from eventbus import EventBus, Message, event
from tests.postgres import LocalPostgres


@event("shop.ordered", topic="shop.ordered.{customer}")
@dataclass(frozen=True)
class Ordered:
    customer: str
    number: int


@dataclass(frozen=True)
class Place:
    """One empty database."""

    kind: str
    url: str
    async_url: str
    connect: Callable[[], Any]
    """A DB-API connection."""

    @classmethod
    def sqlite(cls, folder: Path) -> Place:
        file = folder / "shop.db"
        return cls("sqlite", f"sqlite:///{file}", f"sqlite+aiosqlite:///{file}", lambda: sqlite3.connect(file))

    @classmethod
    def postgresql(cls, server: LocalPostgres, *, async_driver: str = "asyncpg") -> Place:
        name = server.new_database()
        dsn = server.dsn(name)
        return cls("postgresql", server.url(name), server.url(name, async_driver), lambda: psycopg.connect(dsn))

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A Session in a transaction, committed at the end."""
        engine = sqlalchemy.create_engine(self.url)
        try:
            with Session(engine) as session, session.begin():
                yield session
        finally:
            engine.dispose()

    @contextmanager
    def transaction(self, kind: str) -> Iterator[Any]:
        """What an application gives to an outbox, in one transaction: rolled back when the block raises."""
        if kind == "dbapi":
            connection = self.connect()
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
            finally:
                connection.close()
            return
        engine = sqlalchemy.create_engine(self.url)
        try:
            if kind == "connection":
                with engine.begin() as connection:
                    yield connection
            else:
                with Session(engine) as session, session.begin():
                    yield session
        finally:
            engine.dispose()


class Market:
    """A broker in memory, and all that is published on it."""

    def __init__(self) -> None:
        self.faults = FaultPlan()
        self.transport = MemoryTransport(faults=self.faults)
        self.messages: list[Message] = []
        self._audit = EventBus(self.transport, service="audit")
        self._audit.subscribe(pattern="#", name="all")(self._note)

    def _note(self, event: Any, delivery: Any) -> None:
        self.messages.append(delivery.message)

    def bus(self, **options: Any) -> EventBus:
        """A bus of the application on this broker."""
        return EventBus(self.transport, service="shop", **options)

    @property
    def numbers(self) -> list[int]:
        """Of the orders that came, in their order."""
        import msgspec

        return [msgspec.json.decode(message.body)["number"] for message in list(self.messages)]

    def __enter__(self) -> Market:
        self._audit.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._audit.stop()
