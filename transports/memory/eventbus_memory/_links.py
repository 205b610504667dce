"""The two links: callbacks in the publishing thread, or on one event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from eventbus._rules.readiness import wait_in_thread, wait_on_loop
from eventbus.transport import Incoming, LinkSettings, LinkStatus, Phase, StatusListener

from ._broker import MemoryBroker
from ._core import Core
from ._faults import FaultPlan
from ._link import BaseLink
from ._queue import Consumer
from ._state import Consuming

log = logging.getLogger("eventbus.memory")


class MemorySyncLink(BaseLink):
    """A link for threads. Listeners are called by whichever thread published, settled or declared."""

    def __init__(
        self, broker: MemoryBroker, settings: LinkSettings, on_status: StatusListener, faults: FaultPlan
    ) -> None:
        super().__init__(broker, settings, on_status, faults)
        self._changed = threading.Condition()

    def wait_ready(self, timeout: float) -> None:
        """Until every consumer runs; raises the terminal error, or the last one at the timeout."""
        wait_in_thread(self._changed, self._ready, self.status, timeout)

    def stop_consuming(self, timeout: float) -> None:
        """Cancel all consumers but ordered ones and that of replies; no delivery comes to those when it returns."""
        self._cancel_all()
        self._broker.flush(timeout)  # what another thread is about to deliver

    def flush(self, timeout: float) -> bool:
        """True: settlements are carried out when they are given."""
        return True

    def close(self, timeout: float) -> None:
        """Give back what is unsettled, and end."""
        until = time.monotonic() + timeout
        with self._broker.step() as core:
            if self._phase is Phase.CLOSED:
                return
            self._close(core)
        self._broker.flush(timeout)
        self._broker.detach(self, until - time.monotonic())

    def _post(self, core: Core, call: Callable[[Any], None], argument: Any) -> None:
        core.outbox.append((call, argument))

    def _consumer(self, consuming: Consuming) -> Consumer:
        spec = consuming.spec
        return Consumer(
            spec.name,
            deliver=consuming.listener.delivered,
            prefetch=spec.prefetch,
            auto_ack=spec.auto_ack,
            inspect=spec.inspect,
            max_body=self._max_body,
            gone=partial(self._queue_gone, consuming),
        )

    def _tell(self, status: LinkStatus) -> None:
        super()._tell(status)
        with self._changed:
            self._changed.notify_all()


class MemoryAsyncLink(BaseLink):
    """A link for one event loop. Listeners are called on it, in a turn of their own."""

    def __init__(
        self, broker: MemoryBroker, settings: LinkSettings, on_status: StatusListener, faults: FaultPlan
    ) -> None:
        super().__init__(broker, settings, on_status, faults)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._inbox: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._scheduled = False
        self._changed = asyncio.Event()

    async def wait_ready(self, timeout: float) -> None:
        """Until every consumer runs; raises the terminal error, or the last one at the timeout."""
        await wait_on_loop(self._changed, self._ready, self.status, timeout)

    async def stop_consuming(self, timeout: float) -> None:
        """Cancel all consumers but ordered ones and that of replies; no delivery comes to those when it returns."""
        self._cancel_all()
        self._broker.flush(timeout)
        self._empty_inbox()

    async def flush(self, timeout: float) -> bool:
        """True: settlements are carried out when they are given."""
        return True

    async def close(self, timeout: float) -> None:
        """Give back what is unsettled, and end."""
        until = time.monotonic() + timeout
        with self._broker.step() as core:
            if self._phase is Phase.CLOSED:
                return
            self._close(core)
        self._broker.flush(timeout)
        self._empty_inbox()
        self._broker.detach(self, until - time.monotonic())

    def _post(self, core: Core, call: Callable[[Any], None], argument: Any) -> None:
        core.outbox.append((self._receive, (call, argument)))

    def _consumer(self, consuming: Consuming) -> Consumer:
        spec, delivered = consuming.spec, consuming.listener.delivered

        def deliver(incoming: Incoming) -> None:
            self._receive((delivered, incoming))

        return Consumer(
            spec.name,
            deliver=deliver,
            prefetch=spec.prefetch,
            auto_ack=spec.auto_ack,
            inspect=spec.inspect,
            max_body=self._max_body,
            gone=lambda name: self._receive((partial(self._queue_gone, consuming), name)),
            dead=self._loop.is_closed,
        )

    def _receive(self, callback: tuple[Callable[[Any], None], Any]) -> None:
        # Always in a later turn of the loop: a listener is never called inside of a publish, and what comes
        # from other threads and from the loop's own keeps one order. One turn serves all that has come.
        self._inbox.append(callback)
        if self._scheduled:
            return
        self._scheduled = True
        try:
            if threading.get_ident() == self._thread:
                self._loop.call_soon(self._empty_inbox)
            else:
                self._loop.call_soon_threadsafe(self._empty_inbox)
        except RuntimeError:  # the loop is closed
            self._abandon()

    def _empty_inbox(self) -> None:
        # Before looking: what comes from now on schedules a turn of its own.
        self._scheduled = False
        inbox = self._inbox
        while inbox:
            call, argument = inbox.popleft()
            try:
                call(argument)
            except Exception:
                log.exception("a listener raised")

    def _abandon(self) -> None:
        """The loop was closed without closing the link: nobody takes deliveries any more."""
        with self._broker.step() as core:
            if self._phase is Phase.CLOSED:
                return
            self._close(core)
        self._inbox.clear()
        self._broker.detach(self, 0.0)

    def _tell(self, status: LinkStatus) -> None:
        super()._tell(status)
        self._changed.set()
