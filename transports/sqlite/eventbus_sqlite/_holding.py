"""Deliveries: claimed by a consumer under a fencing token, settled by it, or taken back."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence

import msgspec

from eventbus._rules.death import REJECTED
from eventbus.transport import (
    DeadLetter,
    Incoming,
    Message,
    Requeue,
    RetryIn,
    Settlement,
    dead_letter_copy,
    restore_origin,
    retry_copy,
)

from ._attributes import decode_anyway, encode
from ._moving import Moving, Row
from ._tables import QueueRow

log = logging.getLogger("eventbus.sqlite")

_MINE = "SELECT value FROM json_each(?)"


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The token of a delivery: its row in ``held``, which no other delivery will ever have."""

    id: int
    consumer: int


class Holding(Moving):
    """Claiming, settling and giving back, within a transaction."""

    # -- claiming -----------------------------------------------------------------------------------------

    def claim(self, queue: QueueRow, session: int, consumer: int, limit: int) -> tuple[int, int]:
        """Give the first messages of the queue to the consumer: the first token, and how many there are, in a row."""
        self.write()
        run = self.connection.execute
        claimed = run(
            "INSERT INTO held (session, consumer, queue, rank, message, expires, deliveries) "
            "SELECT ?, ?, queue, rank, message, expires, deliveries FROM ready WHERE queue = ? "
            "ORDER BY rank, message LIMIT ?",
            (session, consumer, queue.id, limit),
        )
        count, last = claimed.rowcount, claimed.lastrowid or 0
        if count:
            # They were the first ones, so this range is exactly them. Its end is given as values: with a subquery
            # SQLite would look for the end by rank alone, and read the whole queue.
            end = run("SELECT rank, message FROM held WHERE id = ?", (last,)).fetchone()
            run("DELETE FROM ready WHERE queue = ? AND (rank, message) <= (?, ?)", (queue.id, *end))
            self._sizes.change(queue.id, -count)
        return last - count + 1, count

    def claim_scheduled(self, queue: QueueRow | None, session: int, consumer: int, limit: int) -> tuple[int, int]:
        """As :meth:`claim`, of what waits for its time: for this queue, or (None) to be routed."""
        self.write()
        run = self.connection.execute
        claimed = run(
            "INSERT INTO held (session, consumer, queue, rank, message, deliveries, due) "
            "SELECT ?, ?, queue, 0, message, 0, due FROM scheduled WHERE queue IS ? ORDER BY due, message LIMIT ?",
            (session, consumer, None if queue is None else queue.id, limit),
        )
        count, last = claimed.rowcount, claimed.lastrowid or 0
        first = last - count + 1
        if count:
            run(
                "DELETE FROM scheduled "
                "WHERE (due, message) IN (SELECT due, message FROM held WHERE id BETWEEN ? AND ?)",
                (first, last),
            )
        return first, count

    def share(self, queue: QueueRow, room: int) -> int:
        """How many messages a consumer with room for so many takes, so that others have some too."""
        others = len(queue.active())
        if others < 2:
            return room
        (found,) = self.connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM ready WHERE queue = ? LIMIT ?)", (queue.id, room * others)
        ).fetchone()
        return min(room, -(-int(found) // others))

    def pop(self, queue: QueueRow, limit: int) -> list[tuple[int, float | None, int, float | None, bytes, bytes]]:
        """Take the first messages for a consumer without settlements; as :meth:`read`."""
        self.write()
        rows = self.connection.execute(
            "SELECT message, expires, deliveries, NULL, attributes, body, rank FROM ready "
            "JOIN messages ON messages.id = message WHERE queue = ? ORDER BY rank, message LIMIT ?",
            (queue.id, limit),
        ).fetchall()
        if rows:
            self.connection.execute(
                "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps([row[0] for row in rows]),),
            )
            self.connection.execute(
                "DELETE FROM ready WHERE queue = ? AND (rank, message) <= (?, ?)", (queue.id, rows[-1][6], rows[-1][0])
            )
            self._sizes.change(queue.id, -len(rows))
        return [row[:6] for row in rows]

    def read(self, first: int, count: int) -> list[tuple[int, float | None, int, float | None, bytes, bytes]]:
        """Claimed messages: token, expiry, deliveries before, due time, attributes, body. Needs no transaction."""
        return self.connection.execute(
            "SELECT held.id, expires, deliveries, due, attributes, body FROM held "
            "JOIN messages ON messages.id = message WHERE held.id BETWEEN ? AND ? ORDER BY held.id",
            (first, first + count - 1),
        ).fetchall()

    # -- settling -----------------------------------------------------------------------------------------

    def ack(self, tokens: Sequence[int]) -> int:
        """Forget the messages; says how many tokens were good."""
        mine = json.dumps(tokens)
        run = self.connection.execute
        run(
            f"DELETE FROM messages WHERE id IN (SELECT message FROM held WHERE id IN ({_MINE}))",  # noqa: S608
            (mine,),
        )
        return run(f"DELETE FROM held WHERE id IN ({_MINE})", (mine,)).rowcount  # noqa: S608

    def settle(self, token: int, incoming: Incoming, settlement: Settlement) -> bool:
        """Carry out any other settlement; False when the token is not good any more."""
        found = self.connection.execute(
            "DELETE FROM held WHERE id = ? RETURNING queue, rank, message, expires, deliveries, due", (token,)
        ).fetchone()
        if found is None:
            return False
        queue, rank, message, expires, deliveries, due = found
        row = Row(rank, message, expires, deliveries)
        if due is not None:
            self._back_to_its_time(message, queue, due, keep=isinstance(settlement, Requeue))
        elif not self._carry_out(self.by_id[queue], row, incoming, settlement):
            self.put_back(self.by_id[queue], row)
            self.trim(self.by_id[queue])
        return True

    def _back_to_its_time(self, message: int, queue: int | None, due: float, *, keep: bool) -> None:
        if keep:
            self.connection.execute("INSERT INTO scheduled VALUES (?, ?, ?)", (due, message, queue))
            self.timed = True
        else:
            self.take(message)

    def _carry_out(self, queue: QueueRow, row: Row, incoming: Incoming, settlement: Settlement) -> bool:
        """Put the copy where it belongs, and forget the original; False when that goes back to its queue."""
        if isinstance(settlement, Requeue):
            return False
        if isinstance(settlement, RetryIn):
            if not self._retry(queue, retry_copy(incoming), settlement.delay):
                return False
        elif isinstance(settlement, DeadLetter) and queue.properties.dead_letter_exchange is not None:
            if settlement.verbatim:
                self.bury(queue, row, REJECTED)
                return True
            if not self._dead_letter(queue, incoming, settlement):
                return False
        self.take(row.message)
        return True

    def _retry(self, queue: QueueRow, copy: Message, delay: float) -> bool:
        if delay <= 0:
            return self.enqueue(queue, copy, encode(copy))
        self.schedule(copy, encode(copy), time.time() + delay, queue.id)
        return True

    def _dead_letter(self, queue: QueueRow, incoming: Incoming, settlement: DeadLetter) -> bool:
        exchange, topic = queue.properties.dead_letter_exchange, queue.properties.dead_letter_topic
        copy = dead_letter_copy(incoming, settlement, incoming.message.topic if topic is None else topic)
        outcome = self.publish(msgspec.structs.replace(copy, exchange=exchange or ""))
        # Nobody takes it: dropped, as by RabbitMQ. Refused, or not storable: the original stays.
        return outcome is None or outcome.outcome == "unroutable"

    # -- taking back --------------------------------------------------------------------------------------

    def take_back(self, column: str, holder: int) -> None:
        """All that a session or a consumer holds goes back to its queues, in one step."""
        rows = self.connection.execute(
            f"DELETE FROM held WHERE {column} = ? "  # noqa: S608 # one of two names
            "RETURNING queue, rank, message, expires, deliveries, due",
            (holder,),
        ).fetchall()
        for queue, rank, message, expires, deliveries, due in sorted(rows, key=lambda row: row[2]):
            if due is not None:
                self._back_to_its_time(message, queue, due, keep=True)
            elif queue in self.by_id:
                self.put_back(self.by_id[queue], Row(rank, message, expires, deliveries))
        for queue in {row[0] for row in rows} & set(self.by_id):
            self.trim(self.by_id[queue])


def arrival(
    row: tuple[int, float | None, int, float | None, bytes, bytes],
    *,
    consumer: tuple[int, str],
    queue: str,
    inspect: bool,
    settles: bool,
    max_body: int,
) -> Incoming:
    """A row of :meth:`Holding.read` as it comes to the consumer (its id and name)."""
    token, expires, deliveries, due, attributes, body = row
    (message, problem), attempt, first_seen = decode_anyway(attributes, body), 1, None
    if due is not None:
        message = msgspec.structs.replace(message, deliver_at=due)
    if inspect:
        if expires is not None:
            message = msgspec.structs.replace(message, ttl=max(0.0, expires - time.time()))
    elif message.headers:
        origin = restore_origin(message)
        message, attempt, first_seen = origin.message, origin.attempt, origin.first_seen
    if len(body) > max_body:
        problem = f"the body has {len(body)} bytes; the limit is {max_body}"
    return Incoming(
        message=message,
        consumer=consumer[1],
        queue=queue,
        attempt=attempt + deliveries,
        redelivered=deliveries > 0,
        first_seen=first_seen,
        token=Claim(token, consumer[0]) if settles else None,
        problem=problem,
    )
