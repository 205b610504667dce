"""The relay for asyncio."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Literal, Self

from eventbus import AsyncEventBus, AsyncReceipt, BusClosed, EventBusError, PublishUnknown
from eventbus._backoff import Backoff
from eventbus._bus._async_signals import catch_signals
from eventbus_outbox._async_listening import AsyncListener
from eventbus_outbox._relaying import LOOK_SECONDS, MARGIN_SECONDS, RelayCore, read
from eventbus_outbox._round import RETRY, Round
from eventbus_outbox._rows import Lag, Row
from eventbus_outbox._table import Verdict
from eventbus_outbox.sql import async_database, run_async

Outcomes = asyncio.Queue[tuple[Row, AsyncReceipt]]


class AsyncRelay(RelayCore):
    """Publishes what is in an outbox, as :class:`eventbus_outbox.Relay` does, in a task of the bus's event loop.

    ``database`` is an AsyncEngine of SQLAlchemy, or its URL. The other parameters are those of the relay for threads.
    """

    def __init__(
        self,
        bus: AsyncEventBus,
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
        self._database = async_database(database)
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to relay, and return at once. Idempotent."""
        if self._task is not None and not self._task.done():
            return
        self._stopping, self._ended = asyncio.Event(), asyncio.Event()
        self._error = None
        self._task = asyncio.create_task(self._work(), name="eventbus-outbox-relay")

    async def stop(self, grace: float | None = None) -> bool:
        """Claim no more, wait for the outcomes of what is under way, write them down. Idempotent.

        Gives whether that was done within ``grace`` seconds (the bus's ``grace`` by default); past it the task is
        cancelled. The bus goes on.
        """
        self._stopping.set()
        task = self._task
        if task is None:
            return True
        done, _ = await asyncio.wait({task}, timeout=self._bus.grace if grace is None else grace)
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
        return bool(done)

    async def run(self) -> bool:
        """Relay until SIGTERM or SIGINT, then stop, and stop the bus; a second signal ends it at once.

        Waits for broker and database as long as it takes. Gives whether all ended in time.

        :raises EventBusError: something that trying again does not mend, such as a refused login.
        """
        loop, hurry = asyncio.get_running_loop(), asyncio.Event()
        await self.start()
        ended = self._ended

        def on_signal() -> None:
            if self._stopping.is_set():
                hurry.set()
            self._stopping.set()
            ended.set()

        caught = catch_signals(loop, on_signal)
        try:
            await ended.wait()
            clean = await self._stop_all(hurry)
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
        if self._error is not None:
            raise self._error
        return clean

    async def _stop_all(self, hurry: asyncio.Event) -> bool:
        stopping, hurrying = asyncio.create_task(self.stop()), asyncio.create_task(hurry.wait())
        await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if stopping.done():
            return (await self._bus.stop()).clean and stopping.result()
        stopping.cancel()
        await self.stop(0.0)
        await self._bus.stop(0.0)
        return False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def lag(self) -> Lag:
        """How much waits, asked of the database now; the database's errors are raised as they are."""
        return await run_async(self._database, self._lagging)

    # -- the task ---------------------------------------------------------------------------------------

    async def _work(self) -> None:
        listener = AsyncListener(self._database, self._table.channel, listen=self._listen)
        try:
            while not self._stopping.is_set():
                pause = await self._look()
                if pause and self._pace.idling:
                    await listener.wait(pause, self._stopping)
                elif pause:
                    await self._wait(pause)
            self._now("stopped")
        except BusClosed:
            self._now("stopped")
        except asyncio.CancelledError:
            self._now("stopped")
            raise
        except BaseException as error:
            self._error = error
            self._now("failed", str(error))
        finally:
            self._ended.set()
            await listener.close()
            await self._database.close()

    async def _look(self) -> float:
        """One round; gives the seconds until the next."""
        if not await self._broker_is_there():
            return self._without_broker()
        claim, until = self._new_claim()
        try:
            rows = await run_async(self._database, self._claiming(claim))
        except Exception as error:
            return self._database_trouble(error)
        if not rows:
            self._now("relaying")
            return self._pace.idle()
        round = self._round(rows)
        await self._publish(round, until)
        await self._settle(claim, round.verdict(), until)
        return self._after(round)

    async def _broker_is_there(self) -> bool:
        health = self._bus.health()
        error: Exception | None = None
        if not health.connected:
            try:
                await self._bus.wait_ready(LOOK_SECONDS)
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

    async def _publish(self, round: Round, until: float) -> None:
        """Publish what may be, and return when all of it has its outcome."""
        outcomes: Outcomes = asyncio.Queue()
        while True:
            while self._may_send(until, self._stopping.is_set()) and (row := round.next()) is not None:
                await self._send(row, round, outcomes)
            if not self._may_send(until, self._stopping.is_set()):
                round.stop()
            if not round.under_way:
                return
            try:
                async with asyncio.timeout(self._publish_timeout + MARGIN_SECONDS / 4):
                    row, receipt = await outcomes.get()
            except TimeoutError:
                round.give_up(PublishUnknown("the bus gave no outcome"))
            else:
                round.ended(row, await receipt.error())

    async def _send(self, row: Row, round: Round, outcomes: Outcomes) -> None:
        try:
            stored, options = read(self._bus, row)
            receipt = await self._bus.submit(stored.message, **options)
        except Exception as error:
            round.ended(row, error)
        else:
            receipt.add_done_callback(lambda done: outcomes.put_nowait((row, done)))

    async def _settle(self, claim: str, verdict: Verdict, until: float) -> None:
        """Write down what became of the rows, trying again while they are ours."""
        while True:
            try:
                self._overtaken(await run_async(self._database, self._settling(claim, verdict)))
                return
            except Exception as error:
                await self._wait(self._database_trouble(error))
            if self._stopping.is_set() or time.monotonic() > until:
                self._not_written(verdict)
                return

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
