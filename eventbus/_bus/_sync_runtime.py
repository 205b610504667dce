"""What exists while a sync bus runs: its link, workers, window and open requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from eventbus._bus._asking import Asker
from eventbus._bus._batched import Batched
from eventbus._bus._core import Served, in_handler
from eventbus._bus._dispatch import Dispatch
from eventbus._bus._feeds import Feed, sync_batched, sync_ordered
from eventbus._bus._handling import Handling
from eventbus._bus._health import StopReport
from eventbus._bus._ordered import Ordered
from eventbus._bus._windows import Window
from eventbus._bus._workers import Watch, Workers
from eventbus._message import Incoming
from eventbus._settlement import Settlement
from eventbus.transport import LinkStatus, PublishesInCaller, SyncLink

if TYPE_CHECKING:
    from eventbus._bus._sync import EventBus
    from eventbus._spool._sync_link import SpoolSyncLink

log = logging.getLogger("eventbus")

CLOSE_SECONDS = 1.0
FINISH_MARGIN = 2.0


class Runtime:
    """The running part of an :class:`EventBus`."""

    def __init__(self, bus: EventBus, on_status: Callable[[LinkStatus], None]) -> None:
        self._bus = bus
        self.spool = _spool_link(bus, on_status)
        self.link: SyncLink = self.spool or bus.transport.sync_link(bus._settings, on_status)
        self.main = self.link if self.spool is None else self.spool.main
        self.publish_now = self.link.publish_now if isinstance(self.link, PublishesInCaller) else self.link.publish
        self.window = Window(bus._window_size)
        self.asker = Asker(bus, self)
        self.draining = False
        self.serving = False
        # Worker threads run nothing but handlers, which may publish while the bus drains.
        self._workers = Workers(f"eventbus-{bus._settings.service}", begin=lambda: in_handler.set(True))
        self._watch = Watch(bus._middleware.overdue)
        self._handling = self._handle_by(self.link.settle)
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        self._feeds: dict[str, Feed | Ordered | Batched] = {}

    # -- handling ---------------------------------------------------------------------------------------

    def serve(self, subscriptions: Iterable[Served]) -> None:
        """Consume for these subscriptions."""
        self.serving = True
        for served in subscriptions:
            name = served.subscription.name
            if name not in self._feeds:
                feed = self._feeds[name] = self._feed(served)
                feed.consume()

    def _feed(self, served: Served) -> Feed | Ordered | Batched:
        if served.subscription.ordered:
            return sync_ordered(served, self.link, self._handle_by, self._workers, self._freed)
        if served.subscription.batch is not None:
            return sync_batched(served, self.link, self._handling, self._workers, self._freed)
        return Feed(served, self.link, self._handling, self._workers, self._freed)

    def _handle_by(self, settle: Callable[[Incoming, Settlement], None]) -> Handling:
        return Handling(Dispatch(self._bus, settle=settle, publish=self.link.publish), self._watch)

    @property
    def handlers(self) -> int:
        """Deliveries at work."""
        return sum(feed.busy for feed in list(self._feeds.values()))

    @property
    def overdue(self) -> int:
        """Handlers in threads that run past their timeout."""
        return self._watch.overdue

    def idle(self) -> bool:
        """Whether no delivery is at work or waiting for its turn."""
        return all(feed.idle for feed in list(self._feeds.values()))

    @property
    def parked(self) -> int:
        """Deliveries that wait for their time: for a retry in place, or for the rest of their batch."""
        return sum(feed.parked for feed in list(self._feeds.values()))

    def _freed(self) -> None:
        """A thread has no more work; only a stop waits for that."""
        if self.draining:
            with self._lock:
                self._quiet.notify_all()

    # -- the end ----------------------------------------------------------------------------------------

    def stop(self, grace: float) -> StopReport:
        """Drain and close within ``grace`` + 1 seconds."""
        until = time.monotonic() + grace
        self.draining = self._handling.draining = True
        if self._feeds:
            self.link.stop_consuming(min(grace, 5.0))
        for feed in self._feeds.values():
            feed.halt()
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


def _spool_link(bus: EventBus, on_status: Callable[[LinkStatus], None]) -> SpoolSyncLink | None:
    """The link of a bus with a spool."""
    if bus._spool is None:
        return None
    from eventbus._spool._sync_link import SpoolSyncLink  # most buses have none

    return SpoolSyncLink(bus.transport, bus._settings, bus._spool, on_status, bus._note_spool, bus._note_unroutable)
