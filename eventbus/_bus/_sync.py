"""The bus for threads."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from eventbus._bus._batches import ThreadBatch
from eventbus._bus._core import BusCore, Served, in_handler
from eventbus._bus._health import Health, StopReport, health_of
from eventbus._bus._receipts import Receipt
from eventbus._bus._sending import Sending
from eventbus._bus._signals import run_until_signalled
from eventbus._bus._sync_runtime import Runtime
from eventbus._bus._words import closed_error, full_error
from eventbus._errors import (
    EventBusError,
    NotSent,
    RequestTimeout,
)
from eventbus._events import Request
from eventbus._outgoing import PublishKeywords, options_from
from eventbus._replies import read_reply
from eventbus._supervisor import Phase
from eventbus._topology import Exchange, Topology
from eventbus.transport import LinkStatus

R = TypeVar("R")

_buses: weakref.WeakSet[EventBus] = weakref.WeakSet()


class EventBus(BusCore):
    """The bus for threads: publish events, subscribe handlers, ask and answer.

    Constructing does no I/O; it connects on first use. Every method may be called from any thread. A forked
    child opens its own connections.

    :param url: ``amqp://``, ``amqps://``, ``sqlite:///bus.db``, ``memory://``..., or a transport object.
    :param service: this program's name: the default group, CloudEvents source, and connection name.
    :param middleware: objects, or names of installed ones.
    :param codecs: codecs for further content types.
    :param retry: default policy for handlers that fail.
    :param mandatory: whether publishing an event that nobody is subscribed to raises Unroutable.
    :param timeout: seconds until a publish or request has its outcome, unless the call says otherwise.
    :param window: most publishes without an outcome; past it, publishing waits.
    :param max_body: largest body in bytes, in both directions.
    :param grace: seconds that ``stop`` gives to handlers and confirms.
    :param reply: ``"queue"``: one exclusive reply queue; ``"direct"``: RabbitMQ's direct reply-to.
    :param reply_addresses: prefixes of further addresses that responders may answer to.
    :param tls: TLS settings that no URL can say, such as keys that are not in files.
    :param credentials: who logs in, or a function that says so at every connect, and before they expire (tokens).
    :param publishes: event classes that this service publishes: for its topology, and the permissions made from that.
    :param requests: request classes that it asks.
    :param schedules: event classes that it publishes with a delay, among others.
    :param policies: policies of the broker that belong to its topology.
    :param spool: where events are kept while the broker is away: ``"sqlite:///spool.db"`` or a :class:`eventbus.Spool`.
    :raises ConfigurationError: URL, installation or parameters do not fit.
    """

    def _setup(self) -> None:
        self._after_fork()
        _buses.add(self)

    def _after_fork(self) -> None:
        """Forget everything that belongs to threads and sockets: a forked child shares none of it."""
        # Kept from being collected: a destructor might speak on the parent's sockets.
        self._of_parent = getattr(self, "_runtime", None)
        self._lock = threading.RLock()
        self._runtime: Runtime | None = None
        self._stopping: Runtime | None = None
        self._stopped = False
        self._end_run: Callable[[], None] = lambda: None
        self._terminal: Exception | None = None

    # -- life -------------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True, timeout: float = 30.0) -> None:
        """Connect and serve the subscriptions. Idempotent.

        With ``wait``, returns when connected and every subscription runs.

        :raises ConnectionFailed: not ready after ``timeout`` seconds; the bus goes on trying until it is stopped.
        :raises EventBusError: something that trying again does not mend, such as LoginRefused or TopologyMismatch.
        """
        with self._lock:
            self._stopped = False
            runtime = self._begin()
            runtime.serve(self._served.values())
        if wait:
            runtime.link.wait_ready(timeout)

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Until connected and every subscription runs; raises as :meth:`start` does."""
        self._running().link.wait_ready(timeout)

    def stop(self, grace: float | None = None) -> StopReport:
        """Drain, then close, within ``grace`` seconds (the bus's ``grace`` by default). Idempotent.

        New publishes outside handlers end with BusClosed; consumers stop and unstarted deliveries go back;
        running handlers may finish; confirms are awaited; then the connection closes, whatever the broker does.
        """
        with self._lock:
            runtime, self._runtime = self._runtime, None
            if runtime is not None:
                self._stopping = runtime
            self._stopped = True
        if runtime is None:
            return StopReport()
        try:
            return runtime.stop(self.grace if grace is None else grace)
        finally:
            with self._lock:
                if self._stopping is runtime:
                    self._stopping = None
            self._end_run()

    def run(self) -> StopReport:
        """Serve until SIGTERM, SIGINT or :meth:`stop`, then drain; a second signal stops at once. For the main thread.

        Waits for the broker as long as it takes.

        :raises EventBusError: something that trying again does not mend.
        """
        wake = threading.Event()
        self._end_run, self._terminal = wake.set, None
        self.start(wait=False)
        runtime = self._running()  # kept: a stop that is broken off has forgotten it

        def now() -> StopReport:
            return self.stop(0.0) if self._runtime is runtime else runtime.stop(0.0)

        report, signalled = run_until_signalled(wake, self.stop, now)
        if not signalled and self._terminal is not None:
            raise self._terminal
        return report

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()  # a with statement that was not entered is not left either
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _begin(self) -> Runtime:
        with self._lock:
            if self._runtime is None:
                self._runtime = Runtime(self, self._note_status)
                self._runtime.link.declare(Topology(exchanges=tuple(self._exchanges.values())))
                self._runtime.link.open()
            return self._runtime

    def _running(self) -> Runtime:
        runtime = self._runtime
        if runtime is None and self._stopping is not None and in_handler.get():
            runtime = self._stopping  # what handlers publish still goes out while the bus drains
        if runtime is not None:
            return runtime
        if self._stopped:
            raise closed_error()
        return self._begin()

    def _subscribed(self, served: Served) -> None:
        runtime = self._runtime
        if runtime is not None and runtime.serving:
            runtime.serve([served])

    def _declared(self, exchange: Exchange) -> None:
        runtime = self._runtime
        if runtime is not None:
            runtime.link.declare(Topology(exchanges=(exchange,)))

    def _note_status(self, status: LinkStatus) -> None:
        super()._note_status(status)
        if status.phase is Phase.FAILED:
            self._terminal = status.error
            self._end_run()

    def _link(self) -> object | None:
        return self._runtime.main if self._runtime is not None else None

    def health(self) -> Health:
        """State of the bus now; cheap, from any thread."""
        runtime = self._runtime or self._stopping
        if runtime is None:
            return Health(status="stopped", unroutable=self._unroutable)
        return health_of(
            runtime.link.status(),
            draining=runtime.draining,
            handlers=runtime.handlers,
            overdue=runtime.overdue,
            publishes=runtime.window.taken,
            pending=runtime.asker.pending,
            unroutable=self._unroutable,
            spool=None if runtime.spool is None else runtime.spool.health(),
        )

    # -- publishing -------------------------------------------------------------------------------------

    def publish(self, event: object, /, **options: Unpack[PublishKeywords]) -> None:
        """Publish an event; returns once the broker has confirmed it.

        A plain dict or list needs ``topic=``. See :class:`PublishKeywords` for the keywords.

        :raises PublishError: exactly one of NotSent, Unroutable, Rejected, PublishUnknown, by the deadline.
        """
        runtime = self._running()
        receipt = Receipt(self, runtime.window, event, options_from(options))
        self._send(runtime, receipt, waits=True)
        receipt.wait()

    def submit(self, event: object, /, **options: Unpack[PublishKeywords]) -> Receipt:
        """Publish without waiting for the confirm; waits only while the window is full.

        :raises NotSent: the event cannot be encoded, the window stayed full, or the bus is stopping.
        """
        runtime = self._running()
        receipt = Receipt(self, runtime.window, event, options_from(options))
        self._send(runtime, receipt)
        return receipt

    def _send(self, runtime: Runtime, sending: Sending, *, waits: bool = False) -> None:
        if runtime.draining and not in_handler.get():
            raise sending.not_sent(closed_error())
        if not runtime.window.enter(sending.deadline):
            raise sending.not_sent(full_error(runtime.window.size, runtime.link.status()))
        if runtime.spool is None:
            publish = runtime.publish_now if waits else runtime.link.publish
            publish(sending.message, deadline=sending.deadline, done=sending.outcome)
        else:
            runtime.spool.send(sending)

    def publish_many(self, events: Iterable[object], /, **options: Unpack[PublishKeywords]) -> int:
        """Publish all, pipelined within the window; returns how many were confirmed.

        The iterable is read as the window allows, so it may be endless memory-wise.

        :raises PublishManyError: some failed; its ``failures`` say which and how. The others are confirmed.
        """
        batch, chosen = ThreadBatch(), options_from(options)
        for event in events:
            try:
                runtime = self._running()
                self._send(runtime, batch.member(self, runtime.window, event, chosen))
            except NotSent as error:
                batch.failed(event, error)
            batch.count += 1
        return batch.result()

    # -- requests ---------------------------------------------------------------------------------------

    @overload
    def request(self, request: Request[R], /, **options: Unpack[PublishKeywords]) -> R: ...
    @overload
    def request(self, request: object, /, *, reply: type[R], **options: Unpack[PublishKeywords]) -> R: ...
    @overload
    def request(self, request: object, /, **options: Unpack[PublishKeywords]) -> Any: ...
    def request(self, request: Any, /, *, reply: Any = None, **options: Unpack[PublishKeywords]) -> Any:
        """Ask, and return the answer. Its type is that of ``Request[...]``, of ``@event(reply=...)`` or ``reply``.

        :raises NoResponder: nobody answers this request (at once). :raises RequestTimeout: no answer in time.
        :raises RemoteError: the responder failed. :raises RequestLost: the connection went meanwhile.
        :raises PublishError: the request could not be sent. :raises DecodingError: the answer does not fit.
        """
        reply = self._reply_type(request, reply)
        message = self._running().asker.one(request, options_from(options))
        if message is not None:
            return read_reply(message, self._reply_decoder(message.content_type, reply))
        raise RequestTimeout(f"no reply to {type(request).__name__} in time; the responder may have run")

    def request_many(
        self,
        request: object,
        /,
        *,
        reply: Any = None,
        count: int | None = None,
        **options: Unpack[PublishKeywords],
    ) -> list[Any]:
        """Ask all responders (every group, and every instance of a broadcast one) and gather what comes.

        Returns the answers until ``timeout``, or until there are ``count``; a responder that failed stands in the
        list as a RemoteError. Raises as :meth:`request` does, except RequestTimeout.
        """
        reply = self._reply_type(request, reply)
        answers: list[Any] = []
        with self._running().asker.many(request, options_from(options)) as replies:
            for message in replies:
                try:
                    answers.append(read_reply(message, self._reply_decoder(message.content_type, reply)))
                except EventBusError as error:
                    answers.append(error)
                if len(answers) == count:
                    break
        return answers


def _forget_in_child() -> None:
    for bus in list(_buses):
        bus._after_fork()


os.register_at_fork(after_in_child=_forget_in_child)
