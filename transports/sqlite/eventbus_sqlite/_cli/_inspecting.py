"""What is in a bus file, as facts."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from eventbus._rules.properties import Properties
from eventbus_sqlite._attributes import decode, decode_value
from eventbus_sqlite._cli._reading import beside, schema_of
from eventbus_sqlite._places import boot_id, network_place
from eventbus_sqlite._schema import VERSION
from eventbus_sqlite._waking import is_dead


class SessionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A link of a process. Times are seconds.

    ``alive``: whether the process has it open; None where that cannot be known, as from another container. ``lease`` is
    what is left of its lease, None when the machine was started anew since; ``held`` is how many messages it holds.
    """

    id: int
    service: str
    pid: int
    alive: bool | None
    lease: float | None
    consumers: int
    held: int


class QueueFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A queue. ``lag`` is the age in seconds of the message whose turn is next, ``oldest_held`` that of the oldest one
    at a consumer, by the times at which they were published; None where there is none, or it has no time.

    ``dead_letters`` wait in its dead-letter queue; None without one. ``services`` are those of its consumers.
    """

    name: str
    ready: int
    held: int
    scheduled: int
    dead_letters: int | None
    consumers: int
    services: tuple[str, ...]
    lag: float | None
    oldest_held: float | None


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A bus file. Sizes are bytes; ``free_size`` is that part of ``size`` which is not in use.

    ``newest_schema`` is what this library makes of it when a bus opens it. ``to_be_routed`` are messages that wait for
    their time to go to an exchange, and are in no queue yet.
    """

    file: str
    schema: int
    newest_schema: int
    sqlite: str
    size: int
    free_size: int
    wal_size: int
    exchanges: int
    bindings: int
    to_be_routed: int
    ready: int
    held: int
    scheduled: int
    sessions: tuple[SessionFacts, ...]
    queues: tuple[QueueFacts, ...]


def facts(connection: sqlite3.Connection, path: Path) -> FileFacts:
    """Everything about the file, in the open transaction.

    :raises ConfigurationError: there is no bus in it. :raises sqlite3.Error: it cannot be read.
    """
    schema = schema_of(connection, path)
    queues = _queues(connection)
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    return FileFacts(
        file=str(path),
        schema=schema,
        newest_schema=VERSION,
        sqlite=sqlite3.sqlite_version,
        size=path.stat().st_size,
        free_size=connection.execute("PRAGMA freelist_count").fetchone()[0] * page,
        wal_size=size_of(beside(path, "-wal")),
        exchanges=_count(connection, "exchanges"),
        bindings=_count(connection, "bindings"),
        to_be_routed=_count(connection, "scheduled WHERE queue IS NULL"),
        ready=sum(queue.ready for queue in queues),
        held=_count(connection, "held"),
        scheduled=_count(connection, "scheduled"),
        sessions=tuple(_sessions(connection)),
        queues=queues,
    )


def size_of(path: Path) -> int:
    """Bytes of a file; none where there is no file."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _count(connection: sqlite3.Connection, what: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {what}").fetchone()[0])  # noqa: S608 # words of this module


def _sessions(connection: sqlite3.Connection) -> Iterable[SessionFacts]:
    boot, place, now = boot_id(), network_place(), time.monotonic()
    for id, service, pid, address, its_place, its_boot, lease, consumers, held in connection.execute(
        "SELECT id, service, pid, address, place, boot, lease, "
        "(SELECT count(*) FROM consumers WHERE session = sessions.id), "
        "(SELECT count(*) FROM held WHERE session = sessions.id) FROM sessions ORDER BY id"
    ).fetchall():
        alive: bool | None = None
        if its_boot != boot:
            alive = False
        elif its_place == place:
            alive = not is_dead(address)
        yield SessionFacts(
            id=id,
            service=service,
            pid=pid,
            alive=alive,
            lease=lease - now if its_boot == boot else None,
            consumers=consumers,
            held=held,
        )


def _queues(connection: sqlite3.Connection) -> tuple[QueueFacts, ...]:
    run = connection.execute
    rows = run("SELECT id, name, properties FROM queues ORDER BY name").fetchall()
    ids = {name: id for id, name, _ in rows}
    ready: dict[int, int] = defaultdict(int)
    first: dict[int, int] = {}
    # By rank, in order: the first row of a queue is about those whose turn is next.
    for queue, count, message in run(
        "SELECT queue, count(*), min(message) FROM ready GROUP BY queue, rank ORDER BY queue, rank"
    ):
        ready[queue] += count
        first.setdefault(queue, message)
    held = {row[0]: row[1:] for row in run("SELECT queue, count(*), min(message) FROM held GROUP BY queue")}
    scheduled = dict(run("SELECT queue, count(*) FROM scheduled GROUP BY queue").fetchall())
    consumers: dict[int, list[str]] = defaultdict(list)
    for queue, service in run(
        "SELECT queue, coalesce(service, '?') FROM consumers LEFT JOIN sessions s ON s.id = session"
    ):
        consumers[queue].append(service)
    found = []
    for id, name, encoded in rows:
        dead = ids.get(_dead_letter_queue(encoded))
        many, oldest = held.get(id, (0, None))
        found.append(
            QueueFacts(
                name=name,
                ready=ready[id],
                held=many,
                scheduled=scheduled.get(id, 0),
                dead_letters=None if dead is None else ready[dead],
                consumers=len(consumers[id]),
                services=tuple(sorted(set(consumers[id]))),
                lag=_age(connection, first.get(id)),
                oldest_held=_age(connection, oldest),
            )
        )
    return tuple(found)


def _dead_letter_queue(properties: bytes) -> str:
    found = Properties(**decode_value(properties))
    return (found.dead_letter_topic or "") if found.dead_letter_exchange == "" else ""


def _age(connection: sqlite3.Connection, message: int | None) -> float | None:
    if message is None:
        return None
    row = connection.execute("SELECT attributes FROM messages WHERE id = ?", (message,)).fetchone()
    try:
        published = decode(row[0], b"").time if row is not None else 0.0
    except (msgspec.MsgspecError, TypeError, ValueError, ArithmeticError):  # `check` says so
        published = 0.0
    return max(0.0, time.time() - published) if published else None
