"""One transaction: whatever waits is done together (group commit), and its effects come after the commit."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from functools import partial

from eventbus._errors import NotSent, PublishError, PublishUnknown

from ._consuming import Consuming
from ._failures import Meaning, in_our_words, meaning_of
from ._holding import arrival
from ._store import Store
from ._work import Effect, Publish, Settle, Task, Work

log = logging.getLogger("eventbus.sqlite")

_RECEIPT_BATCH = 200
"""Messages that one transaction hands to a consumer without settlements, which has no other bound."""


class CommitFailed(Exception):
    """The commit itself failed with ``error``: whether the disk has it is not known."""

    def __init__(self, error: sqlite3.Error) -> None:
        super().__init__(str(error))
        self.error = error


class Transaction:
    """What one transaction does. :meth:`run` may be called again after it has raised."""

    def __init__(self, store: Store, session: int, works: list[Work], consumers: Iterable[Consuming]) -> None:
        self._store = store
        self._session = session
        self._works = works
        self._consumers = list(consumers)
        self._begin()

    def _begin(self) -> None:
        self.outcomes: list[tuple[Publish, PublishError | None]] = []
        self.effects: list[Effect] = []
        self.stale = 0
        self.touched: set[int] = set()
        self.timed = False
        self.changed = False
        self._acks: list[int] = []
        self.freed: dict[int, int] = {}
        self.gone: list[Consuming] = []
        self.others: set[str] = set()
        self.deliveries: list[Effect] = []
        self.unread: sqlite3.Error | None = None
        self._claimed: list[tuple[Consuming, int, int]] = []
        self._popped: list[tuple[Consuming, list[tuple[int, float | None, int, float | None, bytes, bytes]]]] = []

    def run(self, *, renew: bool, pass_time: bool, reap: bool, room: bool) -> None:
        """Do it all and commit.

        ``room``: there is room on the disk for further messages.

        :raises sqlite3.Error: it did not happen. :raises SessionLost: nor did it. :raises CommitFailed: it may have.
        """
        self._begin()
        store = self._store
        durable = any(type(work) is Publish and work.message.persistent for work in self._works)
        store.start(self._session, durable=durable)
        try:
            if renew:
                store.renew(self._session)
            if reap:
                for dead in store.expired():
                    log.warning("a process was not heard of within its lease: what it held goes back to its queues")
                    store.end(dead)
            if pass_time:
                store.pass_time()
            self._work(room)
            for consumer in self._consumers:
                self._claim(consumer)
            self.touched, self.timed, self.changed = set(store.touched), store.timed, store.changed
        except BaseException:
            store.rollback()
            raise
        self._commit()

    def _commit(self) -> None:
        try:
            self._store.commit()
        except sqlite3.Error as error:
            self._store.rollback()
            if meaning_of(error) is Meaning.FULL:
                raise  # it ran out of room while it wrote: nothing was committed
            raise CommitFailed(error) from error

    # -- what was asked for -------------------------------------------------------------------------------

    def _work(self, room: bool) -> None:
        for work in self._works:
            if type(work) is Publish:
                if not room:
                    self.outcomes.append((work, NotSent("there is no room left on the disk for further messages")))
                elif work.done is not None:
                    self.outcomes.append((work, self._store.publish(work.message)))
            elif isinstance(work, Settle):
                self._settle(work)
            elif isinstance(work, Task):
                self._flush_acks()
                effect = work.run(self._store)
                if effect is not None:
                    self.effects.append(effect)
        self._flush_acks()

    def _settle(self, work: Settle) -> None:
        consumer = work.claim.consumer
        self.freed[consumer] = self.freed.get(consumer, 0) + 1
        if work.is_ack:
            self._acks.append(work.claim.id)
        elif not self._store.settle(work.claim.id, work.incoming, work.settlement):
            self.stale += 1

    def _flush_acks(self) -> None:
        if self._acks:
            self.stale += len(self._acks) - self._store.ack(self._acks)
            self._acks.clear()

    # -- deliveries ---------------------------------------------------------------------------------------

    def _claim(self, consumer: Consuming) -> None:
        store, id = self._store, consumer.id
        queue = store.by_id.get(consumer.queue)
        if id is None or (queue is None and not consumer.scheduled_only):
            return
        if queue is not None and queue.id in store.touched:
            consumer.hungry = True
        room = consumer.room(self.freed.get(id, 0))
        if not consumer.hungry or room <= 0:
            return
        if queue is not None and not any(active.id == id for active in queue.active()):
            return
        if queue is not None and not consumer.scheduled_only:
            if consumer.spec.auto_ack:
                rows = store.pop(queue, _RECEIPT_BATCH)
                consumer.hungry = len(rows) == _RECEIPT_BATCH
                self._popped.append((consumer, rows))
                return
            share = store.share(queue, room)
            first, count = store.claim(queue, self._session, id, share) if share else (0, 0)
            consumer.more_soon = share < room and count == share and count > 0
            consumer.hungry = count == room or consumer.more_soon
            if count:
                self._claimed.append((consumer, first, count))
            room -= count
        if consumer.spec.inspect and room > 0:
            first, count = store.claim_scheduled(queue, self._session, id, room)
            if count:
                self._claimed.append((consumer, first, count))

    # -- afterwards ---------------------------------------------------------------------------------------

    def settled(self) -> None:
        """After the commit: what consumers hold now."""
        for consumer in self._consumers:
            if consumer.id is not None:
                consumer.unsettled -= self.freed.get(consumer.id, 0)
        for consumer, _, count in self._claimed:
            consumer.unsettled += count

    def read(self, max_body: int) -> None:
        """Read the claimed messages, outside of the transaction: ``deliveries`` are on their way to their consumers.

        What cannot be read leaves its error in ``unread``: everything else has been done all the same.
        """
        try:
            for consumer, first, count in self._claimed:
                self.deliveries += self._deliver(consumer, self._store.read(first, count), max_body, settles=True)
        except sqlite3.Error as error:
            self.unread = error
        for consumer, rows in self._popped:
            self.deliveries += self._deliver(consumer, rows, max_body, settles=False)

    def _deliver(
        self,
        consumer: Consuming,
        rows: list[tuple[int, float | None, int, float | None, bytes, bytes]],
        max_body: int,
        *,
        settles: bool,
    ) -> list[Effect]:
        made: list[Effect] = []
        for row in rows:
            incoming = arrival(
                row,
                consumer=(consumer.id or 0, consumer.spec.name),
                queue=consumer.queue_name,
                inspect=consumer.spec.inspect,
                settles=settles,
                max_body=max_body,
            )
            made.append(partial(consumer.listener.delivered, incoming))
        return made


def not_written(error: sqlite3.Error, store: Store) -> PublishError:
    """The outcome of a publish whose transaction did not happen."""
    return NotSent(str(in_our_words(error, store.path)))


def perhaps_written(store: Store) -> PublishError:
    """The outcome of a publish whose commit failed."""
    return PublishUnknown(f"the disk failed while {store.path} was written: the message may be there")
