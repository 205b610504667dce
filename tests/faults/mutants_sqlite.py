"""Deliberately broken variants of the SQLite transport, as :mod:`tests.faults.mutants` are of that of RabbitMQ."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from eventbus_sqlite import _failures, _keeper
from eventbus_sqlite._failures import Meaning
from eventbus_sqlite._store import Store
from eventbus_sqlite._transaction import Transaction

from tests.faults.mutants import ack_before_handler as ack_before_handler  # of every transport
from tests.faults.programs.common import Program


def confirm_before_commit(program: Program) -> None:
    """A publish is confirmed when its rows are inserted; the commit comes a moment later."""
    real = Store.commit
    work = Transaction._work

    def tell(self: Transaction, room: bool) -> None:
        work(self, room)
        for one, outcome in self.outcomes:
            one.finish(outcome)

    def commit(self: Store) -> None:
        time.sleep(0.008)
        real(self)

    Transaction._work = tell  # type: ignore[method-assign]
    Store.commit = commit  # type: ignore[method-assign]


def settle_by_message(program: Program) -> None:
    """An ack is of a message, not of a delivery: whoever holds it now, and however late it comes."""
    messages: dict[int, int] = {}
    read = Store.read

    def remember(self: Store, first: int, count: int) -> Any:
        rows = read(self, first, count)
        found = self.connection.execute(
            "SELECT id, message FROM held WHERE id BETWEEN ? AND ?", (first, first + count - 1)
        )
        messages.update(found.fetchall())
        return rows

    def ack(self: Store, tokens: Sequence[int]) -> int:
        for token in tokens:
            for table, column in (("held", "message"), ("ready", "message"), ("messages", "id")):
                self.connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (messages[token],))
        return len(tokens)

    Store.read = remember  # type: ignore[assignment, method-assign]
    Store.ack = ack  # type: ignore[assignment, method-assign]


def leases_not_renewed(program: Program) -> None:
    """A session has the lease that it began with."""
    Store.renew = lambda self, session: None  # type: ignore[method-assign]


def claims_left(program: Program) -> None:
    """The session of a dead process ends, and what it held stays with it."""
    Store.take_back = lambda self, column, holder: None  # type: ignore[method-assign]


def lock_is_loss(program: Program) -> None:
    """A file that is locked at this moment is taken for one that is lost."""
    real = _failures.meaning_of

    def meaning(error: sqlite3.Error) -> Meaning:
        found = real(error)
        return Meaning.LOST if found is Meaning.BUSY else found

    vars(_keeper)["meaning_of"] = meaning


def full_is_confirmed(program: Program) -> None:
    """A publish for which there was no room is confirmed."""

    vars(_keeper)["not_written"] = lambda error, store: None


def claim_without_lock(program: Program) -> None:
    """Claims are looked up in one transaction and made in another, as without BEGIN IMMEDIATE."""

    def claim(self: Store, queue: Any, session: int, consumer: int, limit: int) -> tuple[int, int]:
        rows = self.connection.execute(
            "SELECT rank, message, expires, deliveries FROM ready WHERE queue = ? ORDER BY rank, message LIMIT ?",
            (queue.id, limit),
        ).fetchall()
        self.write()
        self.connection.execute("COMMIT")
        time.sleep(0.002)
        while True:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError:
                time.sleep(0.0005)
        first = 0
        for rank, message, expires, deliveries in rows:
            made = self.connection.execute(
                "INSERT INTO held (session, consumer, queue, rank, message, expires, deliveries) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (session, consumer, queue.id, rank, message, expires, deliveries),
            )
            first = first or int(made.lastrowid or 0)
            self.connection.execute(
                "DELETE FROM ready WHERE queue = ? AND rank = ? AND message = ?", (queue.id, rank, message)
            )
        return first, len(rows)

    Store.claim = claim  # type: ignore[assignment, method-assign]
