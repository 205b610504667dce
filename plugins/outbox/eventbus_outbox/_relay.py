"""The relay for threads."""

from __future__ import annotations

import queue
import threading
import time
from types import TracebackType
from typing import Any, Literal, Self

from eventbus import BusClosed, EventBus, EventBusError, PublishUnknown
from eventbus._backoff import Backoff
from eventbus._bus._signals import run_until_signalled
from eventbus_outbox._listening import Listener
from eventbus_outbox._relaying import LOOK_SECONDS, MARGIN_SECONDS, RelayCore, read
from eventbus_outbox._round import RETRY, Round
from eventbus_outbox._rows import Lag, Row
from eventbus_outbox._table import Verdict
from eventbus_outbox.sql import KeptConnection, database, run

Outcomes = queue.SimpleQueue[tuple[Row, Exception | None]]


class Relay(RelayCore):
    """Publishes what is in an outbox, and deletes what the broker has confirmed. It works in a thread of its own.

    Any number of relays, in any number of processes, may work on one outbox. Every message is published at least once
    with one id, and the messages of one key in the order in which they were added. A relay that dies holds its rows
    until its lease ends; what it had published and not yet deleted is published again.

    A message that the broker does not confirm is tried again, after a pause, and its key waits.
    One that no further try would help (too large, its exchange is missing, unreadable) is set aside with its error.

    :param bus: publishes; it connects on first use, and need not be started.
    :param database: an Engine of SQLAlchemy, its URL, or a function that gives DB-API connections.
    :param table: the outbox's table.
    :param batch: most rows that are claimed at once.
    :param lease: seconds that a claim holds; at least the bus's timeout and 5 seconds.
    :param poll: longest pause, in seconds, between two looks into an outbox that was empty.
    :param listen: whether to let PostgreSQL tell of new rows (with psycopg); needs one more connection.
    :param backoff: pauses of a message that the broker did not confirm (:func:`eventbus.exponential`).
    :param on_set_aside: ``"stop-key"``: later messages of its key wait until somebody retries or discards it;
        ``"go-on"``: they are published without it.
    :raises ConfigurationError: parameters or database do not fit.
    """

    def __init__(
        self,
        bus: EventBus,
        database: Any,
        *,
        table: str = "eventbus_outbox",
        batch: int = 200,
        lease: float = 60.0,
        poll: float = 1.0,
        listen: bool = True,
        backoff: Backoff = RETRY,
        on_set_aside: Literal["stop-key", "go-on"] = "stop-key",
    ) -> None:
        super().__init__(
            bus,
            table=table,
            batch=batch,
            lease=lease,
            poll=poll,
            listen=listen,
            backoff=backoff,
            on_set_aside=on_set_aside,
        )
        self._bus = bus
        self._database = _database(database)
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    # -- life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to relay, and return at once. Idempotent."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopping.clear()
        self._ended.clear()
        self._error = None
        self._thread = threading.Thread(target=self._work, name="eventbus-outbox-relay", daemon=True)
        self._thread.start()

    def stop(self, grace: float | None = None) -> bool:
        """Claim no more, wait for the outcomes of what is under way, write them down. Idempotent.

        Gives whether that was done within ``grace`` seconds (the bus's ``grace`` by default). The bus goes on.
        """
        self._stopping.set()
        thread = self._thread
        if thread is None:
            return True
        thread.join(self._bus.grace if grace is None else grace)
        return not thread.is_alive()

    def run(self) -> bool:
        """Relay until SIGTERM or SIGINT, then stop, and stop the bus; a second signal ends it at once.

        For the main thread. Waits for broker and database as long as it takes. Gives whether all ended in time.

        :raises EventBusError: something that trying again does not mend, such as a refused login.
        """
        self.start()
        clean, _ = run_until_signalled(self._ended, self._stop_all, self._stop_now)
        if self._error is not None:
            raise self._error
        return clean

    def _stop_all(self) -> bool:
        clean = self.stop()
        return self._bus.stop().clean and clean

    def _stop_now(self) -> bool:
        self._bus.stop(0.0)
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def lag(self) -> Lag:
        """How much waits, asked of the database now. From any thread; the database's errors are raised as they are."""
        return run(self._database, self._lagging)

    # -- the thread -------------------------------------------------------------------------------------

    def _work(self) -> None:
        connection = self._database.kept()
        listener = Listener(self._database, self._table.channel, listen=self._listen)
        try:
            while not self._stopping.is_set():
                pause = self._look(connection)
                if pause and self._pace.idling:
                    listener.wait(pause, self._stopping)
                elif pause:
                    self._stopping.wait(pause)
            self._now("stopped")
        except BusClosed:
            self._now("stopped")
        except BaseException as error:
            self._error = error
            self._now("failed", str(error))
        finally:
            listener.close()
            connection.close()
            self._database.close()
            self._ended.set()

    def _look(self, connection: KeptConnection) -> float:
        """One round; gives the seconds until the next."""
        if not self._broker_is_there():
            return self._without_broker()
        claim, until = self._new_claim()
        try:
            rows = run(connection, self._claiming(claim))
        except Exception as error:
            return self._database_trouble(error)
        if not rows:
            self._now("relaying")
            return self._pace.idle()
        round = self._round(rows)
        self._publish(round, until)
        self._settle(connection, claim, round.verdict(), until)
        return self._after(round)

    def _broker_is_there(self) -> bool:
        health = self._bus.health()
        error: Exception | None = None
        if not health.connected:
            try:
                self._bus.wait_ready(LOOK_SECONDS)
            except BusClosed:
                raise
            except EventBusError as raised:
                error = raised
            health = self._bus.health()
            if health.status == "failed" and error is not None:
                raise error
        if health.connected and health.blocked is None:
            return True
        self._now("waiting for the broker", health.blocked or health.error)
        return False

    def _publish(self, round: Round, until: float) -> None:
        """Publish what may be, and return when all of it has its outcome."""
        outcomes: Outcomes = queue.SimpleQueue()
        while True:
            while self._may_send(until, self._stopping.is_set()) and (row := round.next()) is not None:
                self._send(row, round, outcomes)
            if not self._may_send(until, self._stopping.is_set()):
                round.stop()
            if not round.under_way:
                return
            try:
                round.ended(*outcomes.get(timeout=self._publish_timeout + MARGIN_SECONDS / 4))
            except queue.Empty:
                round.give_up(PublishUnknown("the bus gave no outcome"))

    def _send(self, row: Row, round: Round, outcomes: Outcomes) -> None:
        try:
            stored, options = read(self._bus, row)
            receipt = self._bus.submit(stored.message, **options)
        except Exception as error:
            round.ended(row, error)
        else:
            receipt.add_done_callback(lambda done: outcomes.put((row, done.error(0))))

    def _settle(self, connection: KeptConnection, claim: str, verdict: Verdict, until: float) -> None:
        """Write down what became of the rows, trying again while they are ours."""
        while True:
            try:
                self._overtaken(run(connection, self._settling(claim, verdict)))
                return
            except Exception as error:
                pause = self._database_trouble(error)
            if self._stopping.wait(pause) or time.monotonic() > until:
                self._not_written(verdict)
                return


_database = database  # the parameter of the same name hides it
