"""The open file and our session in it: transactions that get through, and what has to be done in time.

Everything here is called under the engine's lock.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from eventbus._errors import AccessRefused, ConnectionFailed, EventBusError, PublishError

from ._blockage import Blockage
from ._consuming import Consuming
from ._failures import Meaning, in_our_words, meaning_of
from ._options import Options
from ._places import network_place
from ._schedule import Schedule
from ._store import SessionLost, Store
from ._tables import SessionRow
from ._transaction import CommitFailed, Transaction, not_written, perhaps_written
from ._upkeep import Upkeep
from ._waking import is_dead
from ._work import Effect, Publish, Task, Tell, Work, fail_late

T = TypeVar("T")

log = logging.getLogger("eventbus.sqlite")

_IMPATIENT = 20
_LONGEST_PAUSE = 0.005
_TOLD_AFTER = 1.0


class Lost(Exception):
    """The session is over. ``error`` says why, ``terminal`` that it is not worth another try."""

    def __init__(self, error: EventBusError, *, terminal: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.terminal = terminal


class Keeper:
    """Our session in a file.

    ``begin`` makes everything exist, within the first transaction. ``blocked`` hears why nothing can be written for
    now, and None when it can again. While the file is locked, ``held_up`` is called now and then, with the reason;
    ``give_up`` says whether nobody waits any more. ``tell`` gives publishes their outcomes.
    """

    def __init__(
        self,
        path: Path,
        options: Options,
        service: str,
        *,
        begin: Callable[[Store, int], Effect],
        blocked: Callable[[str | None], None],
        held_up: Callable[[str], None],
        give_up: Callable[[], bool],
        tell: Tell,
    ) -> None:
        self._path = path
        self._options = options
        self._service = service
        self._begin = begin
        self._blockage = Blockage(path, options.disk_free_limit, blocked)
        self._held_up = held_up
        self._give_up = give_up
        self._tell = tell
        self._upkeep = Upkeep()
        self.store: Store | None = None
        self.session = 0
        self.schedule = Schedule(options.lease)
        self._seen = 0

    # -- opening and leaving ------------------------------------------------------------------------------

    def connect(self, address: str) -> Effect:
        """Open the file and begin a session; what is to be done after it.

        :raises Lost: it cannot be done; ``error`` is a ConnectionFailed where it is only locked.
        """
        try:
            store = self._patiently(lambda: Store(self._path, self._options))
            try:
                session, effect = self._patiently(lambda: self._begin_session(store, address))
            except BaseException:
                store.close()
                raise
        except sqlite3.Error as error:
            raise self.lost_by(error) from error
        except PermissionError as error:
            raise Lost(AccessRefused(f"this user may not use {self._path}: {error.strerror}"), terminal=True) from error
        except OSError as error:
            raise Lost(ConnectionFailed(f"{self._path} cannot be opened: {error.strerror}")) from error
        except EventBusError as error:
            raise Lost(error, terminal=True) from error
        self.store, self.session, self._seen = store, session, store.version
        self.schedule.begin()
        self._blockage.lock(None)
        return effect

    def _begin_session(self, store: Store, address: str) -> tuple[int, Effect]:
        try:
            store.start(None, durable=False)
            # The dead go first: what they held shall come before what came after it.
            dead = {row.id for row in store.sessions.values() if row.id == self.session or self._died(row)}
            for id in sorted(dead.union(store.expired())):
                store.end(id)
            session = store.attach(self._service, address, network_place())
            effect = self._begin(store, session)
            store.commit()
        except BaseException:
            store.rollback()
            raise
        return session, effect

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do it, again and again for a while if others have the file locked, as they have for moments all the time."""
        tries, since = 0, time.monotonic()
        while True:
            try:
                return action()
            except sqlite3.Error as error:
                late = time.monotonic() - since > _TOLD_AFTER
                if meaning_of(error) is not Meaning.BUSY or late or self._give_up():
                    raise
            tries += 1
            self._pause_while_busy(tries)

    def lost_by(self, error: sqlite3.Error) -> Lost:
        """What an error ends the session by."""
        return Lost(in_our_words(error, self._path), terminal=meaning_of(error) is Meaning.FATAL)

    def leave(self) -> None:
        """Close the file as it is: the session has been ended in it, or is found dead by others."""
        store, self.store = self.store, None
        if store is not None:
            store.close()

    # -- transactions -------------------------------------------------------------------------------------

    def transact(self, works: list[Work], consumers: list[Consuming], *, patient: bool) -> Transaction | None:
        """Do all of it in one transaction. ``works`` loses those publishes that get an outcome without one.

        Not ``patient``: in the thread of somebody who has more to do than waiting for a lock; None then, or when
        nobody waits any more.

        :raises Lost: the session is over; nothing has happened, or publishes have heard that it may have.
        """
        store = self.store
        assert store is not None
        transaction, schedule = Transaction(store, self.session, works, consumers), self.schedule
        tries, since = 0, time.monotonic()
        while True:
            now = time.monotonic()
            renew, reap = schedule.renews(now), patient and schedule.reaps(now)
            passing = patient and schedule.passes(now)
            try:
                transaction.run(renew=renew, pass_time=passing, reap=reap, room=self._blockage.room(now))
                break
            except sqlite3.Error as error:
                for consumer in consumers:
                    consumer.hungry = True
                meaning = meaning_of(error)
                if meaning is Meaning.BUSY:
                    tries += 1
                    works[:] = self._while_busy(works, tries, since)
                    if self._give_up() or (tries > _IMPATIENT and not patient):
                        return None
                elif meaning is Meaning.FULL and any(type(work) is Publish for work in works):
                    self._refuse(works, not_written(error, store))
                else:
                    raise self.lost_by(error) from error
            except SessionLost:
                raise Lost(ConnectionFailed("the lease ran out: what this process held went back")) from None
            except CommitFailed as failure:
                self._refuse(works, perhaps_written(store))
                raise Lost(in_our_words(failure.error, self._path)) from failure.error
        self._blockage.lock(None)
        schedule.done(now, renewed=renew, reaped=reap)
        if passing or transaction.timed or transaction.changed:
            self._plan(store)
        if patient and store.version != self._seen:
            self._seen = store.version
            # Another process, or we ourselves, may have deleted a queue under a consumer.
            transaction.gone = [consumer for consumer in consumers if consumer.orphaned(store)]
        transaction.settled()
        transaction.others = self._others(store, transaction)
        return transaction

    def _while_busy(self, works: list[Work], tries: int, since: float) -> list[Work]:
        reason = f"{self._path} is locked by another program"
        if time.monotonic() - since > _TOLD_AFTER:
            self._blockage.lock(reason)
        self._pause_while_busy(tries)
        return fail_late(works, reason, self._tell)

    def _pause_while_busy(self, tries: int) -> None:
        if tries % 16 == 0:
            self._held_up(f"{self._path} is locked by another program")
        time.sleep(random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, 0.0001 * 2 ** min(tries, 10)))

    def _plan(self, store: Store) -> None:
        try:
            self.schedule.due_at(store.next_time())
        except sqlite3.Error as error:  # this transaction is over: the next one shall look
            log.debug("the next time is not known: %s", error)
            self.schedule.look()

    def _refuse(self, works: list[Work], error: PublishError) -> None:
        """These publishes have their outcome; the rest may still be done."""
        for work in works:
            if isinstance(work, Publish):
                self._tell(work, error)
        works[:] = [work for work in works if not isinstance(work, Publish)]

    @property
    def unseen(self) -> bool:
        """Whether the tables have changed, and nobody has looked what that means for our consumers."""
        return self.store is not None and self.store.version != self._seen

    # -- time and others ----------------------------------------------------------------------------------

    def due(self, now: float, consumers: Iterable[Consuming]) -> bool:
        """Whether a transaction is needed though nobody has asked for anything."""
        store = self.store
        assert store is not None
        needed = self.schedule.needed(now) or self.unseen
        for consumer in consumers:
            if consumer.hungry and consumer.id is not None and consumer.room() > 0:
                if consumer.spec.inspect or store.anything(consumer.queue):
                    needed = True
                else:
                    consumer.hungry = consumer.more_soon = False
        return needed

    def look(self, consumers: Iterable[Consuming]) -> bool:
        """Another process says that it has changed the file; whether it has."""
        store = self.store
        if store is None or not store.news():
            return False
        self.schedule.look()
        for consumer in consumers:
            consumer.hungry = True
        return True

    def tick(self, now: float, consumers: Iterable[Consuming]) -> Task | None:
        """Now and then: is there news that nobody told us of, does the next session live, is there room to return?"""
        store = self.store
        assert store is not None
        if not store.in_place():
            raise Lost(ConnectionFailed(f"{self._path} was deleted or replaced while it was in use"))
        # News for us that no datagram has announced: whoever publishes cannot reach us, so look often for a while.
        missed = self.look(consumers) and any(store.anything(c.queue) for c in consumers if c.id is not None)
        calm = self.schedule.ticked(now, missed=missed)
        others = sorted(store.sessions.values(), key=lambda row: (row.id <= self.session, row.id))
        # Each link watches the next one, so that somebody watches everybody.
        watched = others[0] if others else None
        if watched is not None and watched.id != self.session and self._died(watched):
            return Task(partial(_bury, watched.id))
        if calm:
            self._upkeep.look(store)
        return None

    def _died(self, row: SessionRow) -> bool:
        return row.place == network_place() and is_dead(row.address)

    def _others(self, store: Store, transaction: Transaction) -> set[str]:
        """The addresses of other links that a transaction concerns."""
        if transaction.changed or transaction.timed:
            sessions = {consumer.session for queue in store.queues.values() for consumer in queue.consumers}
        else:
            queues = [store.by_id[id] for id in transaction.touched if id in store.by_id]
            sessions = {consumer.session for queue in queues for consumer in queue.active()}
        sessions.discard(self.session)
        return {store.sessions[id].address for id in sessions if id in store.sessions}


def _bury(dead: int, store: Store) -> None:
    if dead in store.sessions:
        log.warning("a process has died: what it held goes back to its queues")
        store.end(dead)
