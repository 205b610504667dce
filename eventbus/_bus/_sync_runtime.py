"""What exists while a sync bus runs: its link, workers, window and open requests."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from eventbus._bus._core import REPLY_CONSUMER, Served, StopReport, in_handler, request_error
from eventbus._bus._dispatch import Dispatch
from eventbus._bus._workers import Slots, Watch, Workers
from eventbus._delivery import Delivery
from eventbus._errors import NotSent, PublishError, RequestLost
from eventbus._ids import correlation_id
from eventbus._message import Incoming, Message
from eventbus._outgoing import PublishOptions
from eventbus._replies import PendingReplies, deadline_headers
from eventbus.transport import LinkStatus

if TYPE_CHECKING:
    from eventbus._bus._sync import EventBus

log = logging.getLogger("eventbus")

CLOSE_SECONDS = 1.0
FINISH_MARGIN = 2.0


class Replies:
    """Listener of the reply consumer: knows the address to ask for, and fails what waits when it is lost."""

    def __init__(self, pending: PendingReplies) -> None:
        self._pending = pending
        self._ready = threading.Event()
        self._address = ""

    def delivered(self, incoming: Incoming, /) -> None:
        self._pending.resolve(incoming.message)

    def started(self, queue: str, /) -> None:
        self._address = queue
        self._ready.set()

    def stopped(self, error: Exception | None, /) -> None:
        self._ready.clear()
        self._pending.fail_all(
            RequestLost("the connection was lost while the reply was awaited; the responder may have run")
        )

    def address(self, timeout: float) -> str | None:
        """Where replies shall go, once the broker has said so; None at the timeout."""
        return self._address if self._ready.wait(max(0.0, timeout)) else None


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
        self.pending = PendingReplies()
        self.draining = False
        self.serving = False
        self.handlers = 0
        self._workers = Workers(f"eventbus-{bus._settings.service}")
        self._watch = Watch()
        self._dispatch = Dispatch(bus, settle=self.link.settle, publish=self.link.publish)
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        self._window = threading.Semaphore(bus._window_size)
        self.unconfirmed = 0
        self._replies: Replies | None = None
        self._feeds: dict[str, Feed] = {}

    # -- publishing -------------------------------------------------------------------------------------

    def enter_window(self, deadline: float) -> None:
        """Take a place among the publishes without an outcome, waiting for one until the deadline."""
        if not self._window.acquire(blocking=False) and not self._window.acquire(
            timeout=max(0.0, deadline - time.monotonic())
        ):
            status = self.link.status()
            why = f"; the broker blocks publishing: {status.blocked}" if status.blocked else ""
            raise NotSent(f"{self._bus._window_size} publishes are without an outcome and none ended in time{why}")
        with self._lock:
            self.unconfirmed += 1

    def leave_window(self) -> None:
        """Give the place back."""
        self._window.release()
        with self._lock:
            self.unconfirmed -= 1
            if self.unconfirmed == 0:
                self._quiet.notify_all()

    # -- requests ---------------------------------------------------------------------------------------

    @contextmanager
    def ask(
        self, bus: EventBus, request: Any, options: PublishOptions, *, many: bool = False
    ) -> Iterator[Iterator[Message]]:
        """Send a request; gives an iterator of the reply, or ``many``, that come before its deadline."""
        timeout = bus.timeout if options.timeout is None else options.timeout
        deadline = time.monotonic() + timeout
        box: queue.SimpleQueue[Message | Exception] = queue.SimpleQueue()
        correlation = options.correlation_id or correlation_id()
        address = self._reply_address(deadline)
        options = msgspec.structs.replace(options, correlation_id=correlation, ttl=options.ttl or timeout)
        message = bus._middleware.outgoing(
            bus._encoder.message(
                request, options, request=True, reply_to=address, extra_headers=deadline_headers(timeout)
            )
        )

        def take(reply: Message | Exception) -> bool:
            box.put(reply)
            return not many or isinstance(reply, Exception)

        def sent(error: PublishError | None) -> None:
            if error is not None:
                self.pending.fail(correlation, request_error(error))

        self.pending.add(correlation, take)
        try:
            bus._send(self, message, deadline, sent, mandatory=True)
            yield self._replies_until(box, deadline)
        finally:
            self.pending.discard(correlation)

    @staticmethod
    def _replies_until(box: queue.SimpleQueue[Message | Exception], deadline: float) -> Iterator[Message]:
        while True:
            try:
                reply = box.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if isinstance(reply, Exception):
                raise reply
            yield reply

    def _reply_address(self, deadline: float) -> str:
        with self._lock:
            replies = self._replies
            if replies is None:
                replies = self._replies = Replies(self.pending)
                self.link.consume(self._bus._reply_consumer(), replies)
        address = replies.address(deadline - time.monotonic())
        if address is None:
            status = self.link.status()
            error = status.error or getattr(status.consumers.get(REPLY_CONSUMER), "error", None)
            raise NotSent(f"no reply queue could be had in time{f': {error}' if error else ''}")
        return address

    # -- handling ---------------------------------------------------------------------------------------

    def serve(self, subscriptions: Iterable[Served]) -> None:
        """Consume for these subscriptions."""
        self.serving = True
        for served in subscriptions:
            subscription = served.subscription
            if subscription.name in self._feeds:
                continue
            slots = Slots(subscription.concurrency, self._workers, lambda i, s=served: self._handle(s, i))  # type: ignore[misc]
            feed = self._feeds[subscription.name] = Feed(slots)
            self.link.consume(subscription.consumer(), feed)

    def idle(self) -> bool:
        """Whether no delivery is at work or waiting for its turn."""
        return all(feed.slots.idle() for feed in list(self._feeds.values()))

    def _handle(self, served: Served, incoming: Incoming) -> None:
        if self.draining:
            self._dispatch.give_back(incoming)
            return
        with self._lock:
            self.handlers += 1
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
        finally:
            with self._lock:
                self.handlers -= 1
                if self.handlers == 0:
                    self._quiet.notify_all()

    def _call(self, served: Served, delivery: Delivery) -> Any:
        subscription = served.subscription
        in_handler.set(True)  # worker threads run nothing but handlers
        number = None if subscription.timeout is None else self._watch.begin(subscription.name, subscription.timeout)
        try:
            event, context = self._dispatch.read(served, delivery)
            if not self._dispatch.around:
                return subscription.handler.call(event, context)
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
        self._wait(lambda: self.unconfirmed == 0, until)
        self.link.flush(max(0.0, until - time.monotonic()))
        unknown = self.unconfirmed
        self.link.close(CLOSE_SECONDS)
        self._watch.close()
        self._workers.close(0.2)
        return StopReport(abandoned=abandoned, unknown=unknown)

    def _wait(self, quiet: Callable[[], bool], until: float) -> None:
        with self._lock:
            self._quiet.wait_for(quiet, max(0.0, until - time.monotonic()))
