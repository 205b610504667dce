"""Putting a bus file right, where that loses nothing."""

# ruff: noqa: S608 -- no statement here has any input in it

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

import msgspec

from eventbus._errors import ConfigurationError
from eventbus._rules.properties import properties_of
from eventbus._subscribing import DELIVERY_LIMIT
from eventbus._topology import DEAD_SUFFIX
from eventbus.transport import Queue
from eventbus_sqlite._attributes import encode_value
from eventbus_sqlite._cli._checking import (
    NO_MESSAGE,
    NO_PLACE,
    STRAY_BINDING,
    STRAY_CONSUMER,
    STRAY_HELD,
    STRAY_OWNED,
    UNKNOWN_QUEUES,
    Finding,
    broken_rules,
)
from eventbus_sqlite._cli._reading import our_words, schema_of
from eventbus_sqlite._places import check_place
from eventbus_sqlite._schema import VERSION

_PATIENCE = 30.0

RECOVERED = "recovered"
"""The queue of messages that belong nowhere. Those of a missing queue are in ``recovered.<its id>``."""


def repair(path: Path) -> list[Finding]:
    """Put right what can be, in one transaction, also beside running buses; gives what is still wrong.

    What is held by nobody goes back to its queue. Messages without a queue get one, from which they can be moved. What
    leads nowhere is deleted.

    :raises ConfigurationError: the file has an older schema version. :raises EventBusError: it cannot be written.
    """
    check_place(path)
    with our_words(path):
        url = f"file:{quote(str(path.resolve()))}?mode=rw"
        connection = sqlite3.connect(url, uri=True, isolation_level=None, timeout=_PATIENCE)
        try:
            if schema_of(connection, path) != VERSION:
                raise ConfigurationError(f"{path} has an older schema version: start a bus with it first")
            connection.execute("BEGIN IMMEDIATE")
            _repair(connection)
            left = broken_rules(connection)
            # So that running buses read their tables anew.
            connection.execute("UPDATE state SET topology = topology + 1")
            connection.execute("COMMIT")
            return left
        finally:
            connection.close()  # rolls back what is open


def _repair(connection: sqlite3.Connection) -> None:
    run = connection.execute
    for (id,) in run(UNKNOWN_QUEUES).fetchall():
        _make_queue(connection, f"{RECOVERED}.{id}", id)
    _delete_ownerless(connection)
    for table in ("ready", "held", "scheduled"):
        run(f"DELETE FROM {table} WHERE {NO_MESSAGE}")
    # To their old places; where a message lies there already, it has one.
    run(
        "INSERT OR IGNORE INTO ready SELECT queue, rank, message, expires, deliveries + 1 FROM held "
        f"WHERE due IS NULL AND {STRAY_HELD}"
    )
    run(f"INSERT OR IGNORE INTO scheduled SELECT due, message, queue FROM held WHERE due IS NOT NULL AND {STRAY_HELD}")
    run(f"DELETE FROM held WHERE {STRAY_HELD}")
    run(f"DELETE FROM consumers WHERE {STRAY_CONSUMER}")
    run(f"DELETE FROM bindings WHERE {STRAY_BINDING}")
    if run(f"SELECT 1 FROM messages WHERE {NO_PLACE} LIMIT 1").fetchone():
        queue = _make_queue(connection, RECOVERED)
        run(f"INSERT INTO ready SELECT ?, 0, id, NULL, 0 FROM messages WHERE {NO_PLACE}", (queue,))


def _make_queue(connection: sqlite3.Connection, name: str, id: int | None = None) -> int:
    """A durable queue as a subscription declares it; the one of this name, if there is one."""
    queue = Queue(name=name, dead_letter=name + DEAD_SUFFIX, delivery_limit=DELIVERY_LIMIT)
    properties = encode_value(msgspec.structs.asdict(properties_of(queue, "quorum")))
    connection.execute(
        "INSERT OR IGNORE INTO queues (id, name, properties, owner, used) VALUES (?, ?, ?, NULL, ?)",
        (id, name, properties, time.time()),
    )
    return int(connection.execute("SELECT id FROM queues WHERE name = ?", (name,)).fetchone()[0])


def _delete_ownerless(connection: sqlite3.Connection) -> None:
    """Exclusive queues should have gone with their sessions, with all that is in them."""
    gone = f"(SELECT id FROM queues WHERE {STRAY_OWNED})"
    for table in ("ready", "held", "scheduled"):
        connection.execute(f"DELETE FROM messages WHERE id IN (SELECT message FROM {table} WHERE queue IN {gone})")
        connection.execute(f"DELETE FROM {table} WHERE queue IN {gone}")
    connection.execute(f"DELETE FROM queues WHERE {STRAY_OWNED}")
