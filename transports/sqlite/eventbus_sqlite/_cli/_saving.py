"""Saving what can still be read of a damaged file, into a new one."""

# ruff: noqa: S608 -- no statement here has any input in it

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from eventbus._errors import ConfigurationError
from eventbus_sqlite._cli._reading import our_words, read, schema_of
from eventbus_sqlite._cli._repairing import repair
from eventbus_sqlite._failures import Meaning, meaning_of
from eventbus_sqlite._options import Options
from eventbus_sqlite._schema import VERSION
from eventbus_sqlite._store import Store

# The tables in the order of their keys. Sessions are over, and their consumers gone: what they held goes back.
_TABLES = {
    "exchanges": "name",
    "queues": "id",
    "bindings": "id",
    "messages": "id",
    "ready": "queue, rank, message",
    "held": "id",
    "scheduled": "due, message",
}


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. ``incomplete`` are the tables that could be read in part only, or not at all."""

    file: str
    messages: int
    queues: int
    incomplete: tuple[str, ...]


def save(path: Path, target: Path) -> Saved:
    """Write a new bus file with everything that can be read, put right as by ``--repair``; ``path`` stays as it is.

    :raises ConfigurationError: there is a file of that name, or this one has no bus in it. :raises EventBusError: it
        cannot be written.
    """
    if target.exists():
        raise ConfigurationError(f"there is a file {target} already")
    with our_words(target), closing(Store(target, Options())) as store:
        store.connection.execute("BEGIN IMMEDIATE")
        incomplete = read(path, lambda damaged: _copy_all(damaged, path, store.connection))
        store.connection.execute("COMMIT")
    repair(target)
    messages, queues = read(
        target,
        lambda saved: saved.execute("SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM queues)").fetchone(),
    )
    return Saved(file=str(target), messages=messages, queues=queues, incomplete=incomplete)


def _copy_all(damaged: sqlite3.Connection, path: Path, into: sqlite3.Connection) -> tuple[str, ...]:
    if schema_of(damaged, path) != VERSION:
        raise ConfigurationError(f"{path} has an older schema version: use the eventbus-sqlite that made it")
    return tuple(table for table, key in _TABLES.items() if not _copy(damaged, table, key, into))


def _copy(damaged: sqlite3.Connection, table: str, key: str, into: sqlite3.Connection) -> bool:
    """Copy the rows before the first damage, and then those behind the last one; whether there was none."""
    for backwards in (False, True):
        try:
            for row in _rows(damaged, table, key, backwards=backwards):
                into.execute(f"INSERT OR IGNORE INTO {table} VALUES ({_marks(row)})", row)
        except _Damaged:
            continue
        return not backwards
    return False


class _Damaged(Exception):
    """No more rows can be read."""


def _rows(damaged: sqlite3.Connection, table: str, key: str, *, backwards: bool) -> Iterator[tuple[object, ...]]:
    """The rows in the order of their keys. One by one: sqlite3 drops a row when there is damage behind it."""
    columns = key.split(", ")
    order = ", ".join(f"{column} DESC" if backwards else column for column in columns)
    last: tuple[object, ...] = ()
    while True:
        where = f"WHERE ({key}) {'<' if backwards else '>'} ({_marks(last)})" if last else ""
        try:
            row = damaged.execute(f"SELECT {key}, * FROM {table} {where} ORDER BY {order} LIMIT 1", last).fetchone()
        except sqlite3.DatabaseError as error:
            if meaning_of(error) is Meaning.BUSY:
                raise
            raise _Damaged from error
        if row is None:
            return
        last = row[: len(columns)]
        yield row[len(columns) :]


def _marks(values: tuple[object, ...]) -> str:
    return ", ".join("?" * len(values))
