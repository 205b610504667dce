"""Whether a bus file is whole: SQLite's own check, then what the bus's tables promise one another."""

# ruff: noqa: S608 -- no statement here has any input in it

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from eventbus._rules.names import PREDECLARED
from eventbus._rules.properties import Properties
from eventbus.transport import Exchange
from eventbus_sqlite._attributes import decode, decode_value
from eventbus_sqlite._cli._reading import schema_of
from eventbus_sqlite._failures import Meaning, meaning_of

_MOST = 10
"""Lines of SQLite's that are shown."""

_PLACES = " UNION ALL ".join(f"SELECT queue, message FROM {table}" for table in ("ready", "held", "scheduled"))
_ALWAYS = ", ".join(f"('{exchange.name}')" for exchange in PREDECLARED)
_EXCHANGES = f"(SELECT name FROM exchanges UNION ALL VALUES {_ALWAYS})"

STRAY_HELD = "session NOT IN (SELECT id FROM sessions)"
STRAY_CONSUMER = f"{STRAY_HELD} OR queue NOT IN (SELECT id FROM queues)"
STRAY_BINDING = (
    f"source NOT IN {_EXCHANGES} OR (queue IS NOT NULL AND queue NOT IN (SELECT id FROM queues)) "
    f"OR (queue IS NULL AND exchange NOT IN {_EXCHANGES})"
)
STRAY_OWNED = "owner IS NOT NULL AND owner NOT IN (SELECT id FROM sessions)"
NO_MESSAGE = "message NOT IN (SELECT id FROM messages)"
NO_PLACE = f"id NOT IN (SELECT message FROM ({_PLACES}))"
UNKNOWN_QUEUES = (
    f"SELECT DISTINCT queue FROM ({_PLACES}) WHERE queue IS NOT NULL AND queue NOT IN (SELECT id FROM queues)"
)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong. ``kind`` is a word for programs; ``count`` how many there are."""

    kind: str
    count: int
    text: str
    repairable: bool = False


class Rule(msgspec.Struct, frozen=True):
    """Something that holds in a whole file: the statement counts what does not keep to it."""

    kind: str
    count: str
    text: str
    repairable: bool = True


RULES = (
    Rule("held-without-session", f"SELECT count(*) FROM held WHERE {STRAY_HELD}", "held by nobody"),
    Rule(
        "messages-in-no-queue",
        f"SELECT count(*) FROM messages WHERE {NO_PLACE}",
        "messages that are in no queue: nobody will get them",
    ),
    Rule(
        "messages-in-two-places",
        f"SELECT count(*) FROM (SELECT 1 FROM ({_PLACES}) GROUP BY message HAVING count(*) > 1)",
        "messages that are in two places: one of them will be missing",
        False,
    ),
    Rule(
        "places-without-message",
        f"SELECT count(*) FROM ({_PLACES}) WHERE {NO_MESSAGE}",
        "places in queues whose messages are missing",
    ),
    Rule("queues-missing", f"SELECT count(*) FROM ({UNKNOWN_QUEUES})", "queues that are missing, but have messages"),
    Rule("consumers-stray", f"SELECT count(*) FROM consumers WHERE {STRAY_CONSUMER}", "consumers of nobody or nothing"),
    Rule("bindings-stray", f"SELECT count(*) FROM bindings WHERE {STRAY_BINDING}", "bindings from or to nothing"),
    Rule("queues-ownerless", f"SELECT count(*) FROM queues WHERE {STRAY_OWNED}", "exclusive queues of nobody"),
    Rule("state", "SELECT count(*) <> 1 FROM state", "the table of one row has another number of them", False),
)


def check(connection: sqlite3.Connection, path: Path, *, quick: bool) -> list[Finding]:
    """What is wrong with the file, in the open transaction.

    :raises ConfigurationError: there is no bus in it. :raises sqlite3.Error: it is locked, or no SQLite file.
    """
    schema_of(connection, path)
    damage = _damage(connection, quick=quick)
    if damage:
        return damage  # whatever else there is follows from it
    return [*broken_rules(connection), *_unreadable(connection, quick=quick)]


def broken_rules(connection: sqlite3.Connection) -> list[Finding]:
    """Those rules that are not kept."""
    found = []
    for rule in RULES:
        (count,) = connection.execute(rule.count).fetchone()
        if count:
            found.append(Finding(kind=rule.kind, count=count, text=rule.text, repairable=rule.repairable))
    return found


def _damage(connection: sqlite3.Connection, *, quick: bool) -> list[Finding]:
    pragma = "quick_check" if quick else "integrity_check"
    try:
        rows = connection.execute(f"PRAGMA {pragma}({_MOST})").fetchall()
        # One row may have several lines, the first of which names the database.
        lines = [line for (row,) in rows for line in row.splitlines() if not line.startswith("***")]
    except sqlite3.DatabaseError as error:
        if meaning_of(error) is Meaning.BUSY:
            raise
        lines = [str(error)]
    return [] if lines == ["ok"] else [Finding(kind="damaged", count=1, text=line) for line in lines]


def _unreadable(connection: sqlite3.Connection, *, quick: bool) -> list[Finding]:
    """What this library has written and cannot read."""
    found = [
        _undecodable(connection, "exchanges", "declared", lambda value: Exchange(**decode_value(value))),
        _undecodable(connection, "queues", "properties", lambda value: Properties(**decode_value(value))),
        _undecodable(connection, "bindings", "arguments", decode_value),
    ]
    if not quick:
        found.append(_undecodable(connection, "messages", "attributes", lambda value: decode(value, b"")))
    return [finding for finding in found if finding is not None]


def _undecodable(
    connection: sqlite3.Connection, table: str, column: str, decoder: Callable[[bytes], Any]
) -> Finding | None:
    count = 0
    for (value,) in connection.execute(f"SELECT {column} FROM {table}"):
        try:
            decoder(value)
        except (msgspec.MsgspecError, TypeError, ValueError, ArithmeticError):
            count += 1
    text = f"{table} whose {column} cannot be read"
    return Finding(kind=f"{table}-unreadable", count=count, text=text) if count else None
