"""Testing handlers without a broker: the program's own bus, run in memory for the length of a ``with`` block."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, Unpack

from eventbus._bus._async import AsyncEventBus
from eventbus._bus._core import BusCore
from eventbus._bus._sync import EventBus
from eventbus._errors import ConfigurationError
from eventbus._middleware import MiddlewareStack
from eventbus._outgoing import PublishKeywords
from eventbus.testing._records import DeadLettered, Events, Faults, Recorder, Time

B = TypeVar("B", bound=BusCore)

GRACE = 2.0
PAUSE = 0.001


class _Tester(Generic[B]):
    """What both testers share: swapping the transport, and looking at what happened."""

    def __init__(self, bus: B, *, queue_type: Literal["quorum", "classic"] = "quorum") -> None:
        memory = _memory()
        self.bus = bus
        self.clock: Time = memory.ManualClock()
        """The broker's time: it stands still until it is advanced."""
        self.faults: Faults = memory.FaultPlan()
        """What shall go wrong."""
        self._transport = memory.MemoryTransport(clock=self.clock, faults=self.faults, queue_type=queue_type)
        self.broker: Any = self._transport.broker
        """The in-memory broker (an ``eventbus_memory.MemoryBroker``), to look into its queues."""
        self._recorder = Recorder()
        self._restore: Callable[[], None] | None = None
        self._looked_at = -1
        self.published = Events(self._recorder.published_messages, bus._codecs)
        """Events, requests and replies whose publish was confirmed, by handlers or by the test."""
        self.handled = Events(self._recorder.handled_messages, bus._codecs)
        """Events and requests whose delivery ended well."""
        self.failed = self._recorder.failed
        """Messages whose publish was not confirmed, each with its error."""
        self.errors = self._recorder.errors
        """What handlers raised, in order."""

    @property
    def dead_letters(self) -> list[DeadLettered]:
        """What was given up: by handlers and policy, and by the broker (expired, delivery limit)."""
        found = list(self._recorder.dead)
        known = {(dead.message.id, dead.subscription) for dead in found}
        for served in self.bus._served.values():
            name = served.subscription.queue.dead_letter
            if name is None or name not in self.broker.queues():
                continue
            for message in self.broker.messages(name):
                if (message.id, served.subscription.name) not in known:
                    reason = str(message.headers.get("x-first-death-reason", "unknown"))
                    found.append(DeadLettered(message=message, subscription=served.subscription.name, reason=reason))
        return found

    # -- swapping ---------------------------------------------------------------------------------------

    def _enter(self) -> None:
        bus: Any = self.bus
        if bus._runtime is not None:
            raise ConfigurationError("the bus runs already; a tester takes it before it is started")
        if self._restore is not None:
            raise ConfigurationError("this tester is in use already; make another one")
        before = (bus.transport, bus._middleware, bus._stopped, bus._unroutable, set(bus._unroutable_topics))

        def restore() -> None:
            bus.transport, bus._middleware, bus._stopped, bus._unroutable, bus._unroutable_topics = before

        self._restore = restore
        bus.transport = self._transport
        # Outermost, so it sees what the program's own middleware makes of a message.
        bus._middleware = MiddlewareStack([self._recorder, *bus._middleware.members], allow_async=bus._allow_async)

    def _leave(self) -> None:
        if self._restore is not None:
            self._restore()
            self._restore = None

    # -- rest -------------------------------------------------------------------------------------------

    def _quiet(self) -> bool:
        """Whether nothing is on its way, and nothing has happened since the last look."""
        before, self._looked_at = self._looked_at, self._recorder.events
        runtime: Any = getattr(self.bus, "_runtime", None)
        if runtime is None:
            return True
        if runtime.link.status().unconfirmed:
            # Only a scripted fault holds a confirm back: the test's time goes on to where the publisher gives up.
            self.clock.advance(1.0)
            return False
        return self._idle(runtime) and before == self._recorder.events

    def _idle(self, runtime: Any) -> bool:
        # What waits in the bus for the clock (retries in place, parts of batches) is unsettled at the broker meanwhile.
        unsettled = -runtime.parked
        for name in self.broker.queues():
            try:
                queue = self.broker.queue(name)
            except ConfigurationError:  # deleted meanwhile
                continue
            unsettled += queue.unsettled
            if queue.ready and queue.consumers and not runtime.parked:
                return False
        return not unsettled and runtime.idle()

    def _not_quiet(self, timeout: float) -> AssertionError:
        queues = [self.broker.queue(name) for name in self.broker.queues()]
        busy = ", ".join(f"{q.name} ({q.ready} waiting, {q.unsettled} unsettled)" for q in queues if q.unsettled)
        return AssertionError(f"handlers did not come to rest within {timeout:g} s: {busy or 'a handler runs'}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.bus!r}>"


class BusTester(_Tester[EventBus]):
    """Runs a program's own bus in memory: the network is not touched, whatever URL the bus was given.

    ::

        with BusTester(bus) as t:
            t.publish(CustomerRegistered(...))             # returns when the handlers have come to rest
            assert t.published[WelcomeSent] == [WelcomeSent(...)]
            assert not t.dead_letters

            t.faults.nack(topic="invoices.#")              # the next publish there is refused
            t.advance(60)                                  # retries with a delay, and expiries, happen now

    Entering starts the bus on an in-memory broker of its own, with RabbitMQ's semantics; leaving stops the bus and
    gives it its transport back. ``queue_type`` is what a queue is that does not say so itself.

    :raises ConfigurationError: the bus runs already, or eventbus-memory is not installed.
    """

    def __enter__(self) -> Self:
        self._enter()
        try:
            self.bus.start(timeout=5.0)
        except BaseException:
            self.bus.stop(0.0)
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.bus.stop(GRACE)
        finally:
            self._leave()

    def publish(self, event: object, /, **options: Unpack[PublishKeywords]) -> None:
        """Publish an event as the bus does, then wait until the handlers have come to rest.

        :raises PublishError: as :meth:`eventbus.EventBus.publish`. :raises AssertionError: no rest in 5 seconds.
        """
        receipt = self.bus.submit(event, **options)
        self.drain()
        receipt.wait()

    def drain(self, timeout: float = 5.0) -> None:
        """Wait until no handler runs and nothing is on its way; delayed retries may still wait for the clock.

        :raises AssertionError: no rest within ``timeout`` seconds.
        """
        until = time.monotonic() + timeout
        while not self._quiet():
            if time.monotonic() > until:
                raise self._not_quiet(timeout)
            time.sleep(PAUSE)

    def advance(self, seconds: float, timeout: float = 5.0) -> None:
        """Let the broker's time pass, then drain: delayed retries come, messages expire."""
        self.clock.advance(seconds)
        self.drain(timeout)


class AsyncBusTester(_Tester[AsyncEventBus]):
    """As :class:`BusTester`, for an :class:`eventbus.AsyncEventBus`: ``async with``, and ``await`` what waits."""

    async def __aenter__(self) -> Self:
        self._enter()
        try:
            await self.bus.start(timeout=5.0)
        except BaseException:
            await self.bus.stop(0.0)
            self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.bus.stop(GRACE)
        finally:
            self._leave()

    async def publish(self, event: object, /, **options: Unpack[PublishKeywords]) -> None:
        """Publish an event as the bus does, then wait until the handlers have come to rest.

        :raises PublishError: as :meth:`eventbus.AsyncEventBus.publish`. :raises AssertionError: no rest in 5 seconds.
        """
        receipt = await self.bus.submit(event, **options)
        await self.drain()
        await receipt

    async def drain(self, timeout: float = 5.0) -> None:
        """Wait until no handler runs and nothing is on its way; delayed retries may still wait for the clock.

        :raises AssertionError: no rest within ``timeout`` seconds.
        """
        until = time.monotonic() + timeout
        while not self._quiet():
            if time.monotonic() > until:
                raise self._not_quiet(timeout)
            await asyncio.sleep(PAUSE)

    async def advance(self, seconds: float, timeout: float = 5.0) -> None:
        """Let the broker's time pass, then drain: delayed retries come, messages expire."""
        self.clock.advance(seconds)
        await asyncio.sleep(0)  # what is due now begins in a turn of its own
        await self.drain(timeout)


def _memory() -> Any:
    try:
        return importlib.import_module("eventbus_memory")
    except ImportError as error:
        raise ConfigurationError(
            'the testers need the in-memory transport; install it with: pip install "eventbus[testing]"'
        ) from error
