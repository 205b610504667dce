"""What exists while a sync bus runs: its link, workers, window and open requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from eventbus._bus._asking import Asker
from eventbus._bus._core import Served, in_handler
from eventbus._bus._dispatch import Dispatch
from eventbus._bus._health import StopReport
from eventbus._bus._windows import Window
from eventbus._bus._workers import Slots, Watch, Workers
from eventbus._delivery import Delivery
from eventbus._message import Incoming
from eventbus.transport import LinkStatus

if TYPE_CHECKING:
    from eventbus._bus._sync import EventBus

log = logging.getLogger("eventbus")

CLOSE_SECONDS = 1.0
FINISH_MARGIN = 2.0


class Feed:
    """Listener of one subscription: hands arrivals to its slots."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots

    def delivered(self, incoming: Incoming, /) -> None:
        self.slots.put(incoming)

    def started(self, queue: str, /) -> None:
        """Nothing to do."""

    def stopped(self, error: Exception | None, /) -> None:
        # The broker hands these out again; to handle them now would only make duplicates.
        self.slots.clear()


class Runtime:
    """The running part of an :class:`EventBus`."""

    def __init__(self, bus: EventBus, on_status: Callable[[LinkStatus], None]) -> None:
        self._bus = bus
        self.link = bus.transport.sync_link(bus._settings, on_status)
        self.window = Window(bus._window_size)
        self.asker = Asker(bus, self)
        self.draining = False
        self.serving = False
        # Worker threads run nothing but handlers, which may publish while the bus drains.
        self._workers = Workers(f"eventbus-{bus._settings.service}", begin=lambda: in_handler.set(True))
        self._watch = Watch()
        self._dispatch = Dispatch(bus, settle=self.link.settle, publish=self.link.publish)
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        self._feeds: dict[str, Feed] = {}

    # -- handling ---------------------------------------------------------------------------------------

    def serve(self, subscriptions: Iterable[Served]) -> None:
        """Consume for these subscriptions."""
        self.serving = True
        for served in subscriptions:
            subscription = served.subscription
            if subscription.name in self._feeds:
                continue
            slots = Slots(subscription.concurrency, self._workers, partial(self._handle, served), self._freed)
            feed = self._feeds[subscription.name] = Feed(slots)
            self.link.consume(subscription.consumer(), feed)

    @property
    def handlers(self) -> int:
        """Deliveries at work."""
        return sum(feed.slots.busy for feed in list(self._feeds.values()))

    def idle(self) -> bool:
        """Whether no delivery is at work or waiting for its turn."""
        return not self.handlers

    def _freed(self) -> None:
        """A thread has no more work; only a stop waits for that."""
        if self.draining:
            with self._lock:
                self._quiet.notify_all()

    def _handle(self, served: Served, incoming: Incoming) -> None:
        if self.draining:
            self._dispatch.give_back(incoming)
            return
        try:
            delivery = self._dispatch.open(served, incoming)
            error: BaseException | None = None
            result = None
            try:
                result = self._call(served, delivery)
            except BaseException as raised:  # SystemExit in a handler ends the delivery, not the worker
                error = raised
            self._dispatch.finish(delivery, error, result)
        except Exception:
            log.exception("%s: a delivery could not be settled", served.subscription.name)

    def _call(self, served: Served, delivery: Delivery) -> Any:
        subscription = served.subscription
        if subscription.timeout is None and not self._dispatch.around:
            event, context = self._dispatch.read(served, delivery)
            return subscription.handler.call(event, context)
        number = None if subscription.timeout is None else self._watch.begin(subscription.name, subscription.timeout)
        try:
            event, context = self._dispatch.read(served, delivery)
            with ExitStack() as stack:
                for middleware in self._dispatch.around:
                    stack.enter_context(middleware.handling(delivery))
                return subscription.handler.call(event, context)
        finally:
            if number is not None:
                self._watch.end(number)

    # -- the end ----------------------------------------------------------------------------------------

    def stop(self, grace: float) -> StopReport:
        """Drain and close within ``grace`` + 1 seconds."""
        until = time.monotonic() + grace
        self.draining = True
        if self._feeds:
            self.link.stop_consuming(min(grace, 5.0))
        for feed in self._feeds.values():
            for incoming in feed.slots.clear():
                self._dispatch.give_back(incoming)
        own = 1 if in_handler.get() else 0  # stop() called by a handler must not wait for itself
        margin = min(FINISH_MARGIN, grace / 4)
        self._wait(lambda: self.handlers <= own, until - margin)
        abandoned = max(0, self.handlers - own)
        if abandoned:
            log.error(
                "%d handlers did not end within the grace period; their messages go back to the broker",
                abandoned,
            )
        self.window.wait_empty(until)
        self.link.flush(max(0.0, until - time.monotonic()))
        unknown = self.window.taken
        self.link.close(CLOSE_SECONDS)
        self._watch.close()
        self._workers.close(0.2)
        return StopReport(abandoned=abandoned, unknown=unknown)

    def _wait(self, quiet: Callable[[], bool], until: float) -> None:
        with self._lock:
            self._quiet.wait_for(quiet, max(0.0, until - time.monotonic()))
