"""What exists in a file: exchanges, queues, bindings, sessions, consumers; kept in memory until somebody changes it."""

from __future__ import annotations

import secrets
import sqlite3
import time
from typing import Any

import msgspec

from eventbus._errors import AccessRefused, ConfigurationError, TopologyMismatch
from eventbus._routing import Router
from eventbus._routing.headers import frozen_arguments
from eventbus._rules.names import GENERATED, PREDECLARED, refuse_reserved
from eventbus._rules.properties import Properties, check_same_exchange, check_same_queue, properties_of
from eventbus._topology import dead_letter_queue
from eventbus.transport import Binding, Exchange, Queue

from ._attributes import decode_value, encode_value


class SessionRow(msgspec.Struct, frozen=True):
    """A link of some process: how to wake it, and from where."""

    id: int
    address: str
    place: str


class ConsumerRow(msgspec.Struct, frozen=True):
    """A consumer of some process."""

    id: int
    session: int
    name: str


class QueueRow:
    """A queue, with its consumers in the order of their coming."""

    __slots__ = ("consumers", "id", "name", "owner", "properties", "used")

    def __init__(self, id: int, name: str, properties: Properties, owner: int | None, used: float) -> None:
        self.id = id
        self.name = name
        self.properties = properties
        self.owner = owner
        self.used = used
        self.consumers: list[ConsumerRow] = []

    def active(self) -> list[ConsumerRow]:
        """The consumers that may be given messages."""
        return self.consumers[:1] if self.properties.single_active_consumer else self.consumers

    @property
    def expiry(self) -> float | None:
        """When it goes because nobody uses it, in Unix seconds."""
        expires = self.properties.expires
        return None if expires is None or self.consumers else self.used + expires


class Tables:
    """The tables of a file, as they are within the transaction that is open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.version = 0
        self.changed = False
        self._clear()

    def _clear(self) -> None:
        self.exchanges: dict[str, Exchange] = {}
        self.queues: dict[str, QueueRow] = {}
        self.by_id: dict[int, QueueRow] = {}
        self.sessions: dict[int, SessionRow] = {}
        self.router: Router[QueueRow] = Router(self.queues.get)
        for exchange in PREDECLARED:
            self._keep_exchange(exchange)

    # -- keeping up ---------------------------------------------------------------------------------------

    def refresh(self, version: int) -> None:
        """Read everything anew if the file has another version than memory."""
        if version == self.version:
            return
        self._clear()
        run = self.connection.execute
        for (declared,) in run("SELECT declared FROM exchanges"):
            self._keep_exchange(Exchange(**decode_value(declared)))
        for id, name, properties, owner, used in run("SELECT id, name, properties, owner, used FROM queues"):
            self._keep_queue(QueueRow(id, name, Properties(**decode_value(properties)), owner, used))
        for source, queue, exchange, pattern, arguments in run(
            "SELECT source, queue, exchange, pattern, arguments FROM bindings ORDER BY id"
        ):
            self._keep_binding(source, queue, exchange, pattern, decode_value(arguments))
        for id, address, place in run("SELECT id, address, place FROM sessions"):
            self.sessions[id] = SessionRow(id, address, place)
        for id, session, name, queue in run("SELECT id, session, name, queue FROM consumers ORDER BY id"):
            self.by_id[queue].consumers.append(ConsumerRow(id, session, name))
        self.version = version

    def forget(self) -> None:
        """The transaction was rolled back: memory may be ahead of the file."""
        self.version, self.changed = 0, False

    def settle_tables(self) -> None:
        """Before the commit: let other processes know if anything has changed."""
        if self.changed:
            self.connection.execute("UPDATE state SET topology = topology + 1")
            self.version += 1
            self.changed = False

    def _keep_exchange(self, exchange: Exchange) -> None:
        self.exchanges[exchange.name] = exchange
        self.router.declare_exchange(exchange.name, exchange.kind, exchange.arguments.get("alternate-exchange"))

    def _keep_queue(self, queue: QueueRow) -> None:
        self.queues[queue.name] = self.by_id[queue.id] = queue

    def _keep_binding(self, source: str, queue: int | None, exchange: str | None, pattern: str, arguments: Any) -> None:
        if queue is not None:
            self.router.bind_queue(source, self.by_id[queue], pattern, arguments)
        else:
            self.router.bind_exchange(source, exchange or "", pattern, arguments)

    # -- exchanges and bindings ---------------------------------------------------------------------------

    def declare_exchange(self, exchange: Exchange) -> None:
        """Make the exchange exist; TopologyMismatch when it exists with other properties."""
        if not exchange.name:
            return  # the default exchange always exists
        existing = self.exchanges.get(exchange.name)
        if existing is not None:
            check_same_exchange(existing, exchange)
            return
        refuse_reserved("exchange", exchange.name)
        self._keep_exchange(exchange)
        self._write(
            "INSERT INTO exchanges VALUES (?, ?)", exchange.name, encode_value(msgspec.structs.asdict(exchange))
        )

    def bind(self, binding: Binding, own: str = "") -> None:
        """Make the binding exist; ``own`` is the queue meant by an empty queue name."""
        queue: int | None = None
        for name in (binding.exchange, binding.to_exchange):
            if name is not None and name not in self.exchanges:
                raise ConfigurationError(f"there is no exchange {name!r} that can be bound")
        if binding.to_exchange is None:
            queue = self.queue(binding.queue or own).id
        if self._binding_id(binding, queue) is None:
            self._keep_binding(binding.exchange, queue, binding.to_exchange, binding.pattern, binding.arguments)
            self._write(
                "INSERT INTO bindings (source, queue, exchange, pattern, arguments) VALUES (?, ?, ?, ?, ?)",
                binding.exchange,
                queue,
                binding.to_exchange,
                binding.pattern,
                encode_value(binding.arguments),
            )

    def _binding_id(self, binding: Binding, queue: int | None) -> int | None:
        wanted = frozen_arguments(binding.arguments)
        for id, arguments in self.connection.execute(
            "SELECT id, arguments FROM bindings WHERE source = ? AND queue IS ? AND exchange IS ? AND pattern = ?",
            (binding.exchange, queue, binding.to_exchange, binding.pattern),
        ).fetchall():
            if frozen_arguments(decode_value(arguments)) == wanted:
                return int(id)
        return None

    def _delete_exchange(self, name: str) -> None:
        self.router.delete_exchange(name)
        del self.exchanges[name]
        self._write("DELETE FROM exchanges WHERE name = ?", name)
        self._write("DELETE FROM bindings WHERE source = ?", name)
        self._unbind("exchange", name)

    def _unbind(self, column: str, target: int | str) -> None:
        """Take away what leads to the target; an exchange that goes with its last binding goes now."""
        sources = self.connection.execute(
            f"DELETE FROM bindings WHERE {column} = ? RETURNING source",  # noqa: S608 # one of two names
            (target,),
        ).fetchall()
        for (source,) in dict.fromkeys(sources):
            if (
                self.exchanges[source].auto_delete
                and not self.connection.execute("SELECT 1 FROM bindings WHERE source = ?", (source,)).fetchone()
            ):
                self._delete_exchange(source)

    # -- queues -------------------------------------------------------------------------------------------

    def queue(self, name: str) -> QueueRow:
        """The queue of this name; ConfigurationError when there is none."""
        try:
            return self.queues[name]
        except KeyError:
            raise ConfigurationError(f"there is no queue {name!r}") from None

    def declare(self, queue: Queue, session: int | None) -> QueueRow:
        """Make the queue exist and, if there is none of that name, its dead-letter queue."""
        if queue.dead_letter is not None and queue.dead_letter not in self.queues:
            self._declare(dead_letter_queue(queue), session)
        return self._declare(queue, session)

    def _declare(self, queue: Queue, session: int | None) -> QueueRow:
        wanted = properties_of(queue, "quorum")
        if queue.delivery_limit is not None:  # here, queues of every type count
            wanted = msgspec.structs.replace(wanted, delivery_limit=queue.delivery_limit)
        existing = self.queues.get(queue.name) if queue.name else None
        if existing is not None:
            check_owner(existing, session)
            check_same_queue(queue.name, existing.properties, wanted)
            self.used(existing)
            return existing
        if queue.name:
            refuse_reserved("queue", queue.name)
        name = queue.name or GENERATED + secrets.token_urlsafe(16)
        owner, now = (session if wanted.exclusive else None), time.time()
        id = self._write(
            "INSERT INTO queues (name, properties, owner, used) VALUES (?, ?, ?, ?)",
            name,
            encode_value(msgspec.structs.asdict(wanted)),
            owner,
            now,
        )
        made = QueueRow(id, name, wanted, owner, now)
        self._keep_queue(made)
        return made

    def used(self, queue: QueueRow) -> None:
        """Somebody has used the queue: its time to expire begins anew."""
        if queue.properties.expires is not None:
            queue.used = time.time()
            self._write("UPDATE queues SET used = ? WHERE id = ?", queue.used, queue.id)

    def delete_queue(self, queue: QueueRow) -> None:
        """Delete the queue with its messages and consumers; the links that consume it see that it is gone."""
        for table in ("ready", "held", "scheduled"):
            # Small words from a tuple above, no input.
            self._write(
                f"DELETE FROM messages WHERE id IN (SELECT message FROM {table} WHERE queue = ?)",  # noqa: S608
                queue.id,
            )
            self._write(f"DELETE FROM {table} WHERE queue = ?", queue.id)  # noqa: S608
        self._write("DELETE FROM consumers WHERE queue = ?", queue.id)
        self._write("DELETE FROM queues WHERE id = ?", queue.id)
        del self.queues[queue.name], self.by_id[queue.id]
        self.router.unbind_all(queue)
        self._unbind("queue", queue.id)

    # -- consumers ----------------------------------------------------------------------------------------

    def add_consumer(self, queue: QueueRow, session: int, name: str) -> int:
        """A consumer more; its id."""
        check_owner(queue, session)
        id = self._write("INSERT INTO consumers (session, name, queue) VALUES (?, ?, ?)", session, name, queue.id)
        queue.consumers.append(ConsumerRow(id, session, name))
        return id

    def remove_consumer(self, queue: QueueRow, id: int) -> None:
        """A consumer less; a queue that goes with its last one goes."""
        queue.consumers = [consumer for consumer in queue.consumers if consumer.id != id]
        self._write("DELETE FROM consumers WHERE id = ?", id)
        if not queue.consumers:
            if queue.properties.auto_delete:
                self.delete_queue(queue)
            else:
                self.used(queue)

    def _write(self, statement: str, *values: object) -> int:
        self.changed = True
        return self.connection.execute(statement, values).lastrowid or 0


def check_owner(queue: QueueRow, session: int | None) -> None:
    """AccessRefused when the queue is exclusive to another link."""
    if queue.owner is not None and queue.owner != session:
        raise AccessRefused(f"queue {queue.name!r} is exclusive to another connection")


def check_exists(tables: Tables, name: str) -> QueueRow:
    """The queue; TopologyMismatch when there is none."""
    queue = tables.queues.get(name)
    if queue is None:
        raise TopologyMismatch(f"queue {name!r} does not exist")
    return queue
