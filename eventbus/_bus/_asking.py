"""Asking from threads: requests on their way, and the consumer of their replies."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from eventbus._bus._sending import Asking
from eventbus._bus._words import no_reply_address, request_error
from eventbus._ids import correlation_id
from eventbus._message import Incoming, Message
from eventbus._outgoing import PublishOptions
from eventbus._replies import PendingReplies, replies_lost

if TYPE_CHECKING:
    from eventbus._bus._sync import EventBus
    from eventbus._bus._sync_runtime import Runtime


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
        self._pending.fail_all(replies_lost())

    def address(self, timeout: float) -> str | None:
        """Where replies shall go, once the broker has said so; None at the timeout."""
        return self._address if self._ready.wait(max(0.0, timeout)) else None


class Asker:
    """Sends the requests of one runtime."""

    def __init__(self, bus: EventBus, runtime: Runtime) -> None:
        self._bus = bus
        self._runtime = runtime
        self.pending = PendingReplies()
        self._lock = threading.Lock()
        self._replies: Replies | None = None

    def one(self, request: Any, options: PublishOptions) -> Message | None:
        """The first reply; None when there is none by the deadline."""
        with self._asked(request, options, many=False) as replies:
            return replies()

    @contextmanager
    def many(self, request: Any, options: PublishOptions) -> Iterator[Iterator[Message]]:
        """An iterator of the replies that come by the deadline."""
        with self._asked(request, options, many=True) as replies:
            yield iter(replies, None)

    @contextmanager
    def _asked(self, request: Any, options: PublishOptions, *, many: bool) -> Iterator[Callable[[], Message | None]]:
        timeout = self._bus.timeout if options.timeout is None else options.timeout
        deadline = time.monotonic() + timeout
        box: queue.SimpleQueue[Message | Exception] = queue.SimpleQueue()
        correlation = options.correlation_id or correlation_id()
        message = self._bus._request(request, options, timeout, correlation, self._address(deadline))

        def take(reply: Message | Exception) -> bool:
            box.put(reply)
            return not many or isinstance(reply, Exception)

        def next_reply() -> Message | None:
            try:
                reply = box.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if isinstance(reply, Exception):
                raise reply
            return reply

        self.pending.add(correlation, take)
        try:
            self._bus._send(
                self._runtime,
                Asking(
                    self._bus,
                    self._runtime.window,
                    message,
                    deadline,
                    lambda error: self.pending.fail(correlation, request_error(error)),
                ),
            )
            yield next_reply
        finally:
            self.pending.discard(correlation)

    def _address(self, deadline: float) -> str:
        link = self._runtime.link
        with self._lock:
            replies = self._replies
            if replies is None:
                replies = self._replies = Replies(self.pending)
                link.consume(self._bus._reply_consumer(), replies)
        address = replies.address(deadline - time.monotonic())
        if address is None:
            raise no_reply_address(link.status())
        return address
