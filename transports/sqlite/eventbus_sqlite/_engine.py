"""The thread that works on a link's file: it waits for work, for time and for other processes, and makes transactions.

::

    any thread ──put──► inbox ──┐                        ┌─► outcomes, deliveries (`post`: here, or on the loop)
    other processes ──datagram──┼─► thread: transaction ─┤
    time ───────────────────────┘                        └─► datagrams to links whose queues got messages

What waits in the inbox shares one transaction, so that one commit serves all. A thread that is about to wait for its
own publish may make the transaction itself (:meth:`Engine.put_and_commit`), which saves two changes of thread.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from functools import partial
from pathlib import Path

from eventbus._errors import BusClosed, EventBusError, NotSent, PublishError

from ._duty import Duty
from ._forking import Fork
from ._inbox import Inbox
from ._keeper import Keeper, Lost
from ._options import Options
from ._timers import Timers
from ._transaction import Transaction
from ._waking import Waker
from ._work import Effect, Publish, Task, Work

log = logging.getLogger("eventbus.sqlite")

_LONGEST_PAUSE = 2.0
_SHARE_PAUSE = 0.002


class Engine:
    """A link's thread, its inbox, and what it does when."""

    def __init__(self, path: Path, options: Options, service: str, max_body: int, duty: Duty) -> None:
        self._duty = duty
        self._path = path
        self._max_body = max_body
        self._name = f"eventbus-sqlite-{service}"
        self._keeper = Keeper(
            path,
            options,
            service,
            begin=duty.begin,
            blocked=duty.blocked,
            held_up=lambda reason: self._inbox.fail_late(reason),
            give_up=self._past_close,
            tell=self._tell,
        )
        self._inbox = Inbox(self._tell, duty.dropped)
        self._mutex = threading.Lock()
        self._fork = Fork(self._mutex, lambda: self._keeper.store, self._in_child)
        self._waker: Waker | None = None
        self._thread: threading.Thread | None = None
        self._waiting = False
        self._ended = False
        self._failed: EventBusError | None = None
        self._close_by: float | None = None
        self._failures = 0
        self._why = f"{path} is not open yet"
        self._try_at = 0.0
        self._timers = Timers()

    # -- for the link -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin, without waiting."""
        self._waker = Waker()
        self._fork.watch()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def put(self, work: Work, *, wake: bool = True) -> None:
        """Have it done by the thread; from any thread. Without ``wake`` somebody calls :meth:`wake` soon."""
        self._inbox.put(work)
        if self._ended:  # closed in the meantime: nobody looks any more
            self._inbox.fail_all(BusClosed("the link is closed"))
        elif wake and self._waiting:
            self.wake()

    def wake(self) -> None:
        """Let the thread look at its inbox."""
        if self._waiting and self._waker is not None:
            self._waker.wake()

    def put_and_commit(self, work: Publish) -> None:
        """Have it done in this thread, if nobody is at work and nothing waits but publishes and settlements."""
        self.put(work, wake=False)
        transaction = None
        if self._mutex.acquire(blocking=False):
            try:
                if self._keeper.store is not None:
                    transaction = self._commit_here()
            finally:
                self._mutex.release()
        if transaction is not None:
            for done, outcome in transaction.outcomes:
                done.finish(outcome)
        # Looked at after the lock is free: who found it taken has put its work in before.
        if self._inbox or self._keeper.unseen or any(consumer.hungry for consumer in self._duty.consumers()):
            self.wake()

    def later(self, seconds: float, function: Effect) -> None:
        """Call the function after so many seconds."""
        self._timers.add(seconds, function)
        self.wake()

    def close(self, timeout: float, last: Task) -> None:
        """Do the last task and end, within the timeout whatever happens; does not wait."""
        self._close_by = time.monotonic() + timeout
        self._inbox.put(last)
        self.wake()

    @property
    def unconfirmed(self) -> int:
        """Publishes that have no outcome yet."""
        return self._inbox.unconfirmed

    def join(self, timeout: float) -> None:
        """Until the thread has ended, or the timeout."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, timeout))
        self._inbox.fail_all(BusClosed("the link was closed before this was written"))

    # -- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._ended and not self._past_close() and not self._duty.abandoned():
                if self._keeper.store is not None:
                    self._turn()
                elif self._close_by is not None:  # there is nothing of ours to be given back
                    break
                elif self._failed is not None:
                    self._inbox.fail_all(NotSent(str(self._failed)))
                elif time.monotonic() >= self._try_at:
                    self._connect()
                else:
                    self._inbox.fail_late(self._why)
                self._wait()
        except Exception as error:  # a mistake of ours: nobody must wait for ever
            log.exception("the SQLite transport failed")
            self._duty.lost(EventBusError(f"the SQLite transport failed: {error!r}"), terminal=True)
        finally:
            self._ended = True
            with self._mutex:
                self._keeper.leave()
            self._inbox.fail_all(BusClosed("the link is closed"))
            if self._waker is not None:
                self._waker.close()
            self._fork.unwatch()
            self._duty.ended()

    def _past_close(self) -> bool:
        return self._close_by is not None and time.monotonic() > self._close_by

    def _wait(self) -> None:
        if self._ended:
            return
        assert self._waker is not None
        self._waiting = True
        # Looked at after the flag is set: who puts something in from now on wakes us.
        outside = self._waker.wait(self._next() - time.monotonic())
        self._waiting = False
        if outside:
            self._look()
        if due := self._timers.due():
            self._duty.post(due)

    def _look(self) -> None:
        try:
            with self._mutex:
                self._keeper.look(self._duty.consumers())
        except sqlite3.Error as error:
            self._lose(self._keeper.lost_by(error), [])

    def _next(self) -> float:
        """Until when there is nothing to do."""
        times = [self._timers.next]
        if self._close_by is not None:
            times.append(self._close_by)
        if self._keeper.store is None:
            times.append(time.monotonic() + (0.1 if self._inbox else _LONGEST_PAUSE))
            return min(times) if self._failed is not None else min(*times, self._try_at)
        if self._inbox or self._keeper.unseen:
            return 0.0
        times.append(self._keeper.schedule.next())
        hungry = [c for c in self._duty.consumers() if c.hungry and c.id is not None and c.room() > 0]
        times += [time.monotonic() + _SHARE_PAUSE if consumer.more_soon else 0.0 for consumer in hungry]
        return min(times)

    def _connect(self) -> None:
        assert self._waker is not None
        try:
            with self._mutex:
                effect = self._keeper.connect(self._waker.address)
        except Lost as lost:
            self._not_connected(lost)
            return
        self._failures = 0
        effect()

    def _not_connected(self, lost: Lost) -> None:
        self._failures += 1
        pause = min(_LONGEST_PAUSE, 0.005 * 2 ** min(self._failures, 12))
        self._try_at = time.monotonic() + pause * random.uniform(0.5, 1.0)
        self._why = str(lost.error)
        if lost.terminal:
            self._failed = lost.error
        self._duty.lost(lost.error, terminal=lost.terminal)

    def _tell(self, work: Publish, error: PublishError) -> None:
        self._duty.post([partial(work.finish, error)])

    # -- transactions -------------------------------------------------------------------------------------

    def _turn(self) -> None:
        now, keeper, consumers = time.monotonic(), self._keeper, self._duty.consumers()
        works: list[Work] = []
        try:
            with self._mutex:
                if keeper.schedule.ticks(now) and (task := keeper.tick(now, consumers)) is not None:
                    self._inbox.put(task)
                works = self._inbox.take()
                if not works and not keeper.due(now, consumers):
                    return
                transaction = keeper.transact(works, consumers, patient=True)
                if transaction is None:  # the time to close is over
                    self._inbox.put_back(works)
                    return
                transaction.read(self._max_body)
        except Lost as lost:
            self._lose(lost, works)
        except sqlite3.Error as error:  # while it looked around: nothing has been done
            self._lose(keeper.lost_by(error), works)
        else:
            self._ended = any(isinstance(work, Task) and work.last for work in works)
            self._carry_out(transaction)

    def _carry_out(self, transaction: Transaction) -> None:
        """What comes after the commit."""
        assert self._waker is not None
        self._waker.wake_others(transaction.others)
        self._duty.post([partial(work.finish, outcome) for work, outcome in transaction.outcomes])
        for effect in transaction.effects:
            effect()
        self._duty.post(transaction.deliveries)
        self._inbox.done()
        if transaction.stale:
            self._duty.dropped(transaction.stale)
        if transaction.gone:
            self._duty.gone(transaction.gone)
        if transaction.unread is not None:
            self._lose(self._keeper.lost_by(transaction.unread), [])

    def _lose(self, lost: Lost, works: list[Work]) -> None:
        """The session is over: settlements are void, and the rest is done in the next one."""
        self._inbox.lose(works)
        with self._mutex:
            self._keeper.leave()
        self._why = str(lost.error)
        if lost.terminal:
            self._failed = lost.error
        self._try_at = time.monotonic()
        self._duty.lost(lost.error, terminal=lost.terminal)

    def _commit_here(self) -> Transaction | None:
        """In a caller's thread. What does not work out is left to the engine's thread, which knows what to do."""
        works, transaction = self._inbox.take(), None
        if not any(isinstance(work, Task) for work in works):
            try:
                transaction = self._keeper.transact(works, [], patient=False)
            except Lost:
                pass
        if transaction is None:
            self._inbox.put_back(works)
            return None
        self._inbox.done()
        for consumer in self._duty.consumers():
            if consumer.queue in transaction.touched:
                consumer.hungry = True
            consumer.unsettled -= transaction.freed.get(consumer.id or 0, 0)
        assert self._waker is not None
        self._waker.wake_others(transaction.others)
        if transaction.stale:
            self._duty.dropped(transaction.stale)
        return transaction

    def _in_child(self) -> None:
        """After a fork: this is the link of the parent, and ended here."""
        self._keeper.store, self._ended = None, True
        if self._waker is not None:
            self._waker.close_in_child()
