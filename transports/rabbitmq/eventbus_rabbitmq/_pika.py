"""pika under the engine: a reactor on pika's own I/O loop, for links of threads.

pika owns the connection (TCP, TLS, negotiation, login, heartbeats) and answers the declarations; the lane takes the
frames of every message out of its byte stream. The seams are adapter hooks of pika 1.x: ``_on_data_available``
(bytes in), ``_adapter_emit_data`` (bytes out), ``_transport.abort``, ``_transport._sock`` and the sizes of its reads,
``_channels`` and their ``_consumers``; a test holds them in place.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pika
from pika.adapters.select_connection import IOLoop

from eventbus_rabbitmq import _port as port
from eventbus_rabbitmq._options import RabbitMQOptions
from eventbus_rabbitmq._pika_operations import Answer, Run, close_at_once
from eventbus_rabbitmq._pika_services import Services
from eventbus_rabbitmq._tcp import TCP_OPTIONS
from eventbus_rabbitmq._wire.lane import Lane, LaneChannel

log = logging.getLogger("eventbus.rabbitmq")

T = TypeVar("T")

RECEIVE_BYTES = 1 << 18


class LaneConnection(pika.SelectConnection):  # type: ignore[misc]
    """A pika connection whose bytes pass the lane first."""

    lane: Lane | None = None
    plain = False
    """Whether the socket is without TLS: bytes given to it leave as they are."""
    turn: Callable[..., None]
    asked: dict[int, dict[Answer, str]]
    """What was asked on each channel and has no answer yet: what it is about."""

    def _on_data_available(self, data_in: bytes) -> None:
        if self.lane is None:
            super()._on_data_available(data_in)
        else:
            self.turn(self.lane.feed, data_in)

    def _on_connection_workflow_done(self, conn_or_exc: Any) -> None:
        # pika 1.4 tells of an attempt that was aborted in its handshake by the class of the error, and then fails
        # its own assertion, which would end the I/O thread.
        super()._on_connection_workflow_done(conn_or_exc() if isinstance(conn_or_exc, type) else conn_or_exc)

    def pass_on(self, data: bytes) -> None:
        """Frames that are pika's."""
        super()._on_data_available(data)

    def emit(self, data: bytes) -> None:
        """Bytes of the lane."""
        transport = self._transport
        if transport is None:
            return
        if self.plain and not transport.get_write_buffer_size():
            # pika would wait until its loop says that the socket is writable, which it is: three system calls saved.
            try:
                sent = transport._sock.send(data)
            except OSError:  # full, or broken: pika finds out, and knows what to do
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        self._adapter_emit_data(data)

    def unsent(self) -> int:
        """Bytes that the socket has not taken yet."""
        return int(self._transport.get_write_buffer_size()) if self._transport is not None else 0

    def widen(self) -> None:
        """Read much at once: pika's 4 KiB make sixteen system calls of a body of 64 KiB."""
        self._transport._MAX_RECV_BYTES = RECEIVE_BYTES
        if self.plain:
            # Not again until nothing is there: the loop tells when there is. (TLS keeps what it has decrypted, of which
            # the loop knows nothing.)
            self._transport._MAX_CONSUME_BYTES = 1

    def abort(self) -> None:
        """Close the socket now."""
        if self._transport is not None:
            self._transport.abort()


class PikaReactor:
    """Time and connections on one IOLoop, which a thread of the link runs."""

    def __init__(self, options: RabbitMQOptions, name: str) -> None:
        self._options = options
        self._name = options.name or name
        self.loop: Any = IOLoop()
        self.services = Services(self.loop)
        self._soon: list[Callable[[], None]] = []
        self._in_turn = False

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def wake(self, function: Callable[[], None]) -> None:
        """Call on the loop's thread. From any thread."""
        self.loop.add_callback_threadsafe(lambda: self.turn(function))

    def turn(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call, and then what has been put off to the end of the turn."""
        if self._in_turn:
            function(*arguments)
            return
        self._in_turn = True
        try:
            function(*arguments)
        finally:
            self._in_turn = False
            self._end_turn()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call at the end of this turn."""
        self._soon.append(function)
        # pika's own way to put a call off wakes its loop by a byte on a socket; a timer that is due needs none.
        if not self._in_turn and len(self._soon) == 1:
            self.loop.call_later(0, self._end_turn)

    def _end_turn(self) -> None:
        while self._soon:
            soon, self._soon = self._soon, []
            for function in soon:
                try:
                    function()
                except Exception:
                    log.exception("an operation failed on the I/O thread")

    def call_later(self, seconds: float, function: Callable[[], None]) -> port.Timer:
        """Call after so many seconds."""
        return _Timer(self.loop, self.loop.call_later(seconds, function))

    def connect(self, way: port.Way, events: port.Events) -> port.Attempt:
        """Begin to connect."""
        attempt = PikaAttempt(self, events)
        try:
            parameters = self._parameters(way)
        except Exception as error:  # what pika does not take: told like a failed attempt
            failure = error
            self.call_soon(lambda: events.failed(failure))
            return attempt
        attempt.begin(parameters)
        return attempt

    def _parameters(self, way: port.Way) -> Any:
        options = self._options
        ssl_options = None if way.context is None else pika.SSLOptions(way.context, way.server_name)
        credentials = pika.PlainCredentials(way.login.user, way.login.password.reveal())
        if options.auth_mechanism == "external":
            credentials = pika.credentials.ExternalCredentials()
        return pika.ConnectionParameters(
            host=way.host,
            port=way.port,
            virtual_host=options.vhost,
            credentials=credentials,
            heartbeat=options.heartbeat,
            channel_max=options.channel_max or pika.channel.MAX_CHANNELS,
            ssl_options=ssl_options,
            socket_timeout=options.connect_timeout,
            stack_timeout=options.connect_timeout,
            blocked_connection_timeout=None,
            client_properties={"connection_name": f"{self._name} ({way.role})", "product": "eventbus"},
            tcp_options={name: value for name, value in TCP_OPTIONS.items() if hasattr(socket, name)},
        )


class _Timer:
    def __init__(self, loop: Any, handle: Any) -> None:
        self._loop = loop
        self._handle = handle

    def cancel(self) -> None:
        self._loop.remove_timeout(self._handle)


class PikaAttempt:
    """One attempt to connect, and the connection that comes of it."""

    def __init__(self, reactor: PikaReactor, events: port.Events) -> None:
        self._reactor = reactor
        self._events = events
        self._connection: LaneConnection | None = None
        self._given_up = False

    def begin(self, parameters: Any) -> None:
        """Let pika connect."""
        connection = self._connection = LaneConnection(
            parameters,
            on_open_callback=self._opened,
            on_open_error_callback=self._failed,
            on_close_callback=self._lost,
            custom_ioloop=self._reactor.services,
        )
        connection.lane = Lane(connection.pass_on, self._events.blocked)
        connection.turn = self._reactor.turn
        connection.asked = {}
        connection.plain = parameters.ssl_options is None

    def abort(self) -> None:
        """Give it up."""
        self._given_up = True
        connection = self._connection
        if connection is not None and not connection.is_closed and not connection.is_closing:
            connection.close()

    def _opened(self, connection: LaneConnection) -> None:
        if self._given_up:
            connection.close()
            return
        assert connection.lane is not None
        connection.lane.frame_max = connection.params.frame_max
        connection.widen()
        self._events.opened(PikaSession(connection))

    def _failed(self, connection: Any, error: Exception) -> None:
        if not self._given_up:
            self._events.failed(error)

    def _lost(self, connection: Any, error: Exception) -> None:
        if not self._given_up:
            self._events.lost(error)


class PikaSession:
    """An open connection."""

    def __init__(self, connection: LaneConnection) -> None:
        self._connection = connection
        self.frame_max = int(connection.params.frame_max)

    def attach(self, number: int, channel: LaneChannel) -> None:
        """The lane takes the frames of this channel."""
        assert self._connection.lane is not None
        self._connection.lane.channels[number] = channel

    def detach(self, number: int) -> None:
        """No more."""
        assert self._connection.lane is not None
        self._connection.lane.release(number)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._connection.emit(data)

    def buffered(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._connection.unsent()

    def run(self, steps: port.Steps[T], done: Callable[[T | None, Exception | None], None]) -> None:
        """Drive a sequence by pika's callbacks."""
        Run(self._connection, steps, done).go(None, None)

    def update_secret(self, secret: str, done: Callable[[Exception | None], None]) -> None:
        """Give the broker a new password or token."""
        try:
            self._connection.update_secret(secret, "renewed", lambda frame: done(None))
        except Exception as error:  # the connection is closing
            done(error)

    def close(self) -> None:
        """Close in order."""
        if not self._connection.is_closed and not self._connection.is_closing:
            for channel in list(self._connection._channels.values()):
                if channel.is_open:
                    close_at_once(channel)
            self._connection.close()

    def abort(self) -> None:
        """Close the socket now."""
        self._connection.abort()
