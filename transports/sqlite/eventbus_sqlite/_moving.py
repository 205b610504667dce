"""How messages come into queues and out of them again: the statements, and the rules that choose among them."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Sequence

import msgspec

from eventbus._errors import EncodingError, PublishError, Rejected
from eventbus._routing import UnknownExchange
from eventbus._rules.death import DELIVERY_LIMIT, EXPIRED, MAXLEN, REJECTED, dead_lettered, goes_in_circles
from eventbus._rules.publishing import destinations
from eventbus.transport import Message

from ._attributes import decode_anyway, encode
from ._sizes import Sizes
from ._tables import QueueRow, Tables

log = logging.getLogger("eventbus.sqlite")

_AT_ONCE = 1000
"""Timed messages that one transaction moves."""

_MANY = 64
"""Rows of one INSERT. Each step of a statement gives the interpreter's lock away, so fewer of them disturb less."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """A message's place in a queue, as it was taken out of ``ready`` or ``held``."""

    rank: int
    message: int
    expires: float | None
    deliveries: int


class Moving(Tables):
    """Publishing, putting back, expiring and dead-lettering, within a transaction.

    ``touched`` are the queues (ids) that have got messages; ``timed`` says that something has to happen later.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.touched: set[int] = set()
        self.timed = False
        self._sizes = Sizes(connection)
        self._next = 0
        self._messages: list[tuple[int, bytes, bytes]] = []
        self._ready: list[tuple[int, int, int, float | None, int]] = []

    def begin(self, next_id: int) -> None:
        """A transaction has begun; ``next_id`` is above all messages' ids."""
        self._next = next_id
        self._messages.clear()
        self._ready.clear()
        self.touched.clear()
        self.timed = False
        self._sizes.begin()

    def forget(self) -> None:
        """The transaction was rolled back: memory may be ahead of the file."""
        super().forget()
        self._sizes.forget()

    # -- publishing ---------------------------------------------------------------------------------------

    def publish(self, message: Message) -> PublishError | None:
        """Put the message into its queues, or keep it until it is due; None when it is there. Rows wait for `write`."""
        try:
            attributes = encode(message)
        except EncodingError as error:
            return error
        if message.deliver_at is not None and message.deliver_at > time.time():
            self.schedule(message, attributes, message.deliver_at, None)
            return None
        return self._route(message, attributes)

    def _route(self, message: Message, attributes: bytes) -> PublishError | None:
        queues = destinations(self.router, self.exchanges, message)
        if not isinstance(queues, list):
            return queues
        refused = [queue.name for queue in queues if not self.enqueue(queue, message, attributes)]
        return Rejected(f"full: {', '.join(refused)}") if refused else None

    def enqueue(self, queue: QueueRow, message: Message, attributes: bytes) -> bool:
        """Add the message at the end of a queue; False when the queue is full and refuses more."""
        properties = queue.properties
        limited = properties.max_length is not None
        if limited and properties.overflow != "drop-head" and self._excess(queue, 1) > 0:
            if properties.overflow == "reject-publish-dlx":
                self._bury_message(queue, message, MAXLEN)
            return False
        self._append(queue, message, attributes)
        if limited:
            self.trim(queue)
        return True

    def _append(self, queue: QueueRow, message: Message, attributes: bytes) -> None:
        properties, ttl = queue.properties, message.ttl
        if properties.message_ttl is not None and (ttl is None or properties.message_ttl < ttl):
            ttl = properties.message_ttl
        expires = None if ttl is None else time.time() + ttl
        rank = -max(0, min(message.priority or 0, properties.max_priority)) if properties.max_priority else 0
        self._ready.append((queue.id, rank, self._add(attributes, message.body), expires, 0))
        self._sizes.change(queue.id, 1)
        self.touched.add(queue.id)
        self.timed = self.timed or expires is not None

    def schedule(self, message: Message, attributes: bytes, due: float, queue: int | None) -> None:
        """Keep the message until then, for a queue or (None) to be routed."""
        id = self._add(attributes, message.body)
        self.write()
        self.connection.execute("INSERT INTO scheduled VALUES (?, ?, ?)", (due, id, queue))
        self.timed = True

    def _add(self, attributes: bytes, body: bytes) -> int:
        id = self._next
        self._next += 1
        self._messages.append((id, attributes, body))
        return id

    def write(self) -> None:
        """Insert the rows that wait: before anything that reads them, and before the commit."""
        if self._messages:
            self._insert("messages", 3, self._messages)
            self._messages.clear()
        if self._ready:
            self._insert("ready", 5, self._ready)
            self._ready.clear()

    def _insert(self, table: str, width: int, rows: Sequence[tuple[object, ...]]) -> None:
        place = f"({', '.join('?' * width)})"
        run = self.connection.execute
        begin = 0
        while len(rows) - begin >= _MANY:
            values = [value for row in rows[begin : begin + _MANY] for value in row]
            run(f"INSERT INTO {table} VALUES {', '.join([place] * _MANY)}", values)  # noqa: S608 # no input
            begin += _MANY
        for row in rows[begin:]:
            run(f"INSERT INTO {table} VALUES {place}", row)  # noqa: S608

    # -- limits of length ---------------------------------------------------------------------------------

    def _excess(self, queue: QueueRow, more: int = 0) -> int:
        """How many messages are too many, with so many more."""
        limit = queue.properties.max_length
        if limit is None:
            return 0
        if not self._sizes.knows(queue.id):
            self.write()
        return self._sizes.of(queue.id) + more - limit

    def trim(self, queue: QueueRow) -> None:
        """Drop from the head what is too much, which is what has just come back, if anything has."""
        if queue.properties.max_length is None or queue.properties.overflow != "drop-head":
            return
        excess = self._excess(queue)
        if excess > 0:
            self.write()
            rows = self.connection.execute(
                "DELETE FROM ready WHERE queue = ?1 AND (rank, message) IN "
                "(SELECT rank, message FROM ready WHERE queue = ?1 ORDER BY rank, message LIMIT ?2) "
                "RETURNING rank, message, expires, deliveries",
                (queue.id, excess),
            ).fetchall()
            self._sizes.change(queue.id, -len(rows))
            for row in sorted(rows):
                self.bury(queue, Row(*row), MAXLEN)

    # -- what is not delivered ----------------------------------------------------------------------------

    def put_back(self, queue: QueueRow, row: Row) -> None:
        """A delivery came back: to its old place, or to the dead letters when it has come back too often."""
        limit = queue.properties.delivery_limit
        if limit is not None and row.deliveries + 1 > limit:
            self.bury(queue, row, DELIVERY_LIMIT)
            return
        self.connection.execute(
            "INSERT INTO ready VALUES (?, ?, ?, ?, ?)",
            (queue.id, row.rank, row.message, row.expires, row.deliveries + 1),
        )
        self._sizes.change(queue.id, 1)
        self.touched.add(queue.id)
        self.timed = self.timed or row.expires is not None

    def bury(self, queue: QueueRow, row: Row, reason: str) -> None:
        """Dead-letter a message that is in no table but ``messages``; it is dropped when there is nowhere to go."""
        message = self.take(row.message)
        if message is not None:
            self._bury_message(queue, message, reason)

    def _bury_message(self, queue: QueueRow, message: Message, reason: str) -> None:
        exchange = queue.properties.dead_letter_exchange
        if exchange is None:
            return
        dead = dead_lettered(message, queue.name, reason, exchange, queue.properties.dead_letter_topic)
        try:
            targets = self.router.route(exchange, dead.topic, dead.headers)
        except UnknownExchange:
            return
        attributes = encode(dead)
        for target in targets:
            if reason == REJECTED or not goes_in_circles(dead, target.name):
                self.enqueue(target, dead, attributes)

    def take(self, message: int) -> Message | None:
        """The message, out of ``messages``."""
        self.write()
        row = self.connection.execute(
            "DELETE FROM messages WHERE id = ? RETURNING attributes, body", (message,)
        ).fetchone()
        return None if row is None else decode_anyway(*row)[0]

    # -- time ---------------------------------------------------------------------------------------------

    def pass_time(self) -> None:
        """Do what is due: scheduled messages, times to live, queues that nobody uses."""
        now = time.time()
        run = self.connection.execute
        expired = run(
            "DELETE FROM ready WHERE (queue, rank, message) IN "
            "(SELECT queue, rank, message FROM ready WHERE expires <= ? LIMIT ?) "
            "RETURNING queue, rank, message, expires, deliveries",
            (now, _AT_ONCE),
        ).fetchall()
        for queue, *row in sorted(expired):
            self._sizes.change(queue, -1)
            self.bury(self.by_id[queue], Row(*row), EXPIRED)
        due = run(
            "DELETE FROM scheduled WHERE (due, message) IN "
            "(SELECT due, message FROM scheduled WHERE due <= ? ORDER BY due, message LIMIT ?) "
            "RETURNING due, message, queue",
            (now, _AT_ONCE),
        ).fetchall()
        for _, message, queue in sorted(due, key=_by_time):
            self._begin_its_time(message, queue)
        for row in [row for row in self.queues.values() if (expiry := row.expiry) is not None and expiry <= now]:
            self.delete_queue(row)
        self.timed = True

    def _begin_its_time(self, id: int, queue: int | None) -> None:
        message = self.take(id)
        if message is None:
            return
        # With a new id, so that it goes behind what was published meanwhile.
        message = msgspec.structs.replace(message, deliver_at=None)
        if queue is None:
            outcome = self._route(message, encode(message))
            if outcome is not None:
                log.warning("a delayed message could not be delivered: %s", outcome)
        elif queue in self.by_id:
            # Even into a full queue: the original is gone.
            self._append(self.by_id[queue], message, encode(message))

    def next_time(self) -> float | None:
        """When something is due, in Unix seconds; None when nothing is."""
        (expires, due) = self.connection.execute(
            "SELECT (SELECT min(expires) FROM ready WHERE expires IS NOT NULL), (SELECT min(due) FROM scheduled)"
        ).fetchone()
        unused = [expiry for queue in self.queues.values() if (expiry := queue.expiry) is not None]
        return min((time for time in (expires, due, *unused) if time is not None), default=None)


def _by_time(row: tuple[float, int, int | None]) -> tuple[float, int]:
    return row[0], row[1]
