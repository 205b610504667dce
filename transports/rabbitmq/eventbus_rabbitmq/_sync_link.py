"""The link for threads: one I/O thread runs the engine; every method hands its work to that thread."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from eventbus import BusClosed, ConnectionFailed, PublishError
from eventbus._message import Incoming, Message
from eventbus._topology import Topology
from eventbus.transport import (
    Ack,
    ConsumerListener,
    ConsumerSpec,
    LinkSettings,
    LinkStatus,
    Phase,
    QueueCount,
    Settlement,
    StatusListener,
)
from eventbus_rabbitmq._contexts import Contexts
from eventbus_rabbitmq._engine import Engine
from eventbus_rabbitmq._mapping import HeaderEncoder
from eventbus_rabbitmq._options import RabbitMQOptions
from eventbus_rabbitmq._pika import PikaReactor
from eventbus_rabbitmq._preparing import prepare
from eventbus_rabbitmq._settling import acks_at_once

log = logging.getLogger("eventbus.rabbitmq")

_numbers = itertools.count(1)

T = TypeVar("T")

# Acks wait this long for others, as long as the broker has leave to send more.
ACK_LINGER = 0.002

READY = Exception("ready")  # stands for "nothing is in the way" where None stands for "no answer"


class RabbitMQSyncLink:
    """See :class:`eventbus.transport.SyncLink`."""

    def __init__(self, options: RabbitMQOptions, settings: LinkSettings, on_status: StatusListener) -> None:
        self._on_status = on_status
        self._contexts = Contexts(options.tls)
        self._reactor = PikaReactor(options, settings.service)
        self._engine = Engine(self._reactor, options, settings, self._contexts, self._changed)
        self._prepare = partial(
            prepare,
            HeaderEncoder(),
            max_body=settings.max_body,
            service=settings.service,
            queue_exchange=options.queue_exchange,
        )
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._scheduled = False
        # While the thread looks by itself every few milliseconds, acks need not wake it.
        self._ticking = False
        self._settled = False
        self._at_once: dict[str, int] = {}
        self._lock = threading.Lock()
        self._state = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._closed = False
        self._ended = False
        self._status = LinkStatus(phase=Phase.IDLE)

    # -- the thread -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect."""
        with self._lock:
            if self._thread is not None or self._closed:
                return
            name = f"eventbus-io-{next(_numbers)}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()
        self._call(self._engine.open)

    def _run(self) -> None:
        try:
            while not self._ended:
                try:
                    self._reactor.loop.start()
                except Exception:
                    # An error of pika's own, out of one connection's callback. Without this thread nothing would have
                    # an outcome any more; what that connection was about runs into its time limit.
                    log.critical("an error on the I/O thread, which goes on", exc_info=True)
        finally:
            self._reactor.loop.close()

    def _end_thread(self) -> None:
        self._ended = True
        # After what an abort has put off: the socket is closed there.
        self._reactor.loop.add_callback_threadsafe(self._reactor.loop.stop)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run on the I/O thread, in the order given; the thread is woken once for many."""
        self._calls.append((function, arguments))
        self._wake()

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._reactor.wake(self._drain)

    def _tick(self) -> None:
        """Look for acks that have not woken the thread; where there are some, others are likely to follow."""
        self._ticking = bool(self._calls) or self._settled
        self._settled = False
        if self._ticking:
            self._reactor.call_later(ACK_LINGER, self._tick)
        self._drain()

    def _drain(self) -> None:
        if self._settled and not self._ticking:
            self._ticking = True
            self._reactor.call_later(ACK_LINGER, self._tick)
        # Reset first: what is appended from now on wakes the thread again.
        self._scheduled = False
        calls = self._calls
        for _ in range(len(calls)):
            try:
                function, arguments = calls.popleft()
                function(*arguments)
            except Exception:
                log.exception("an operation failed on the I/O thread")

    def _ask(self, begin: Callable[[Callable[[], None]], None], timeout: float) -> bool:
        """Run ``begin(done)`` on the I/O thread and wait until ``done`` is called."""
        if self._thread is None or self._closed:
            return True
        done = threading.Event()
        self._call(begin, done.set)
        return done.wait(max(0.0, timeout))

    def _get(self, function: Callable[[], T], timeout: float) -> T | None:
        """Run on the I/O thread and give its result; None at the timeout."""
        found: list[T] = []

        def begin(done: Callable[[], None]) -> None:
            found.append(function())
            done()

        self._ask(begin, timeout)
        return found[0] if found else None

    def _not_ready(self) -> tuple[Exception | None, bool]:
        return self._engine.not_ready() or (READY, False)

    def _changed(self, status: LinkStatus) -> None:
        with self._lock:
            self._status = status
            self._state.notify_all()
        self._on_status(status)

    # -- what the bus asks ------------------------------------------------------------------------------

    def declare(self, topology: Topology) -> None:
        """Exchanges that publishing needs."""
        self._call(self._engine.declare, topology)

    def publish(self, message: Message, *, deadline: float, done: Callable[[PublishError | None], None]) -> None:
        """Send one message."""
        if self._closed:
            done(BusClosed("the link is closed, so nothing was sent"))
            return
        try:
            outgoing = self._prepare(message, deadline=deadline, done=done)
        except PublishError as error:
            done(error)
            return
        self._call(self._engine.publish, outgoing, message.reply_to)

    def consume(self, spec: ConsumerSpec, listener: ConsumerListener) -> None:
        """Keep a consumer running."""
        self._at_once[spec.name] = acks_at_once(spec.prefetch)
        self._call(self._engine.consume, spec, listener)

    def release(self, name: str) -> None:
        """End one consumer; what it holds goes back in one step."""
        self._call(self._engine.release, name)

    def count_consumers(self, queue: str, done: Callable[[int | None], None]) -> None:
        """Ask the broker how many consumers a queue has."""
        self._call(self._engine.count_consumers, queue, done)

    def count(self, consumer: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """Ask what the queue of one of the link's consumers holds, behind its settlements."""
        self._call(self._engine.count, consumer, done)

    def count_queue(self, queue: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """Ask what a queue holds, by its name."""
        self._call(self._engine.count_queue, queue, done)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call after so many seconds, on the I/O thread."""
        self._call(self._engine.later, seconds, function)

    def settle(self, incoming: Incoming, settlement: Settlement) -> None:
        """Tell the broker what became of a delivery."""
        if self._ticking and type(settlement) is Ack and len(self._calls) + 1 < self._at_once.get(incoming.consumer, 1):
            self._calls.append((self._engine.settle, (incoming, settlement)))
            if not self._ticking:  # it has just ended, perhaps before it saw this one
                self._wake()
        else:
            self._call(self._engine.settle, incoming, settlement)
            self._settled = True

    def reload_tls(self) -> None:
        """Connect anew with the TLS files as they are now."""
        self._contexts.check()
        self._call(self._engine.reconnect)

    def status(self) -> LinkStatus:
        """A snapshot."""
        if self._closed or self._thread is None:
            return self._status
        if threading.current_thread() is self._thread:
            return self._engine.status()
        found = self._get(self._engine.status, 0.5)
        return self._status if found is None else found

    # -- what waits -------------------------------------------------------------------------------------

    def wait_ready(self, timeout: float) -> None:
        """Until connected and every consumer runs."""
        until = time.monotonic() + timeout
        while True:
            with self._lock:
                seen = self._status
            error, terminal = self._get(self._not_ready, timeout + 1.0) or (None, False)
            if error is READY:
                return
            left = until - time.monotonic()
            if error is not None and terminal:
                raise error
            if left <= 0 or self._closed:
                raise ConnectionFailed(
                    f"not ready after {timeout:g} s: {error or 'no answer from the broker yet'}"
                ) from error
            with self._lock:
                self._state.wait_for(lambda s=seen: self._status is not s, min(left, 0.25))  # type: ignore[misc]

    def stop_consuming(self, timeout: float) -> None:
        """Cancel all consumers but ordered ones and that of replies."""
        self._ask(self._engine.stop_consuming, timeout)

    def flush(self, timeout: float) -> bool:
        """Until settlements are written and their copies confirmed."""
        return self._ask(self._engine.when_flushed, timeout)

    def close(self, timeout: float) -> None:
        """Close within ``timeout`` seconds."""
        with self._lock:
            thread, closed = self._thread, self._closed
            if not closed and thread is None:
                self._closed = True
                self._reactor.loop.close()
                return
        if closed or thread is None:
            return
        if not self._ask(self._engine.close, timeout):
            self._call(self._engine.abort)
        self._closed = True
        self._call(self._end_thread)
        thread.join(1.0)
        if thread.is_alive():
            log.error("the I/O thread did not end")
        for function, arguments in list(self._calls):  # publishes that came too late must have their outcome too
            function(*arguments)
