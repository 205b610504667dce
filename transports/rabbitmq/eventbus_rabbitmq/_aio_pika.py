"""aio-pika under the engine: a reactor on an asyncio loop.

aio-pika owns the connection (negotiation, login, heartbeats) and answers the declarations; the lane takes the frames of
every message out of its byte stream. The seam is aiormq's ``TransportFactory``: ours opens the socket with a protocol
that feeds the lane first. Plain connections, never ``connect_robust``: reconnecting is the engine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import aio_pika
from aiormq.exceptions import ChannelClosed
from yarl import URL

from eventbus import ConnectionFailed, EventBusError
from eventbus_rabbitmq import _port as port
from eventbus_rabbitmq._aio_operations import perform, told_by_close, update_secret
from eventbus_rabbitmq._aio_socket import SocketFactory
from eventbus_rabbitmq._errors import channel_error
from eventbus_rabbitmq._operations import describe
from eventbus_rabbitmq._options import RabbitMQOptions
from eventbus_rabbitmq._wire.lane import Lane, LaneChannel

log = logging.getLogger("eventbus.rabbitmq")

T = TypeVar("T")


class AsyncioReactor:
    """Time and connections on the running loop."""

    def __init__(self, options: RabbitMQOptions, name: str) -> None:
        self._options = options
        self._name = options.name or name
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[Any]] = set()

    def now(self) -> float:
        """Monotonic seconds: not the loop's time, which need not be the clock of the bus's deadlines."""
        return time.monotonic()

    def wake(self, function: Callable[[], None]) -> None:
        """Call on the loop. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            self.loop.call_soon_threadsafe(function)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call at the end of this turn."""
        self.loop.call_soon(function)

    def call_later(self, seconds: float, function: Callable[[], None]) -> port.Timer:
        """Call after so many seconds."""
        return self.loop.call_later(seconds, function)

    def connect(self, way: port.Way, events: port.Events) -> port.Attempt:
        """Begin to connect."""
        attempt = AioPikaSession(self, way, self._options, f"{self._name} ({way.role})", events)
        attempt.begin()
        return attempt

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run a coroutine, and keep it from being collected."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


class AioPikaSession:
    """An attempt to connect, and the connection that comes of it."""

    lane: Lane

    def __init__(
        self,
        reactor: AsyncioReactor,
        way: port.Way,
        options: RabbitMQOptions,
        name: str,
        events: port.Events,
    ) -> None:
        self.events = events
        self.frame_max = 0
        self.transport: asyncio.Transport | None = None
        self._reactor = reactor
        self._way = way
        self._options = options
        self._name = name
        self._connection: aio_pika.Connection | None = None
        self._task: asyncio.Task[Any] | None = None
        self._opened = False
        self._ended = False
        self._failure: Exception | None = None

    # -- opening ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Connect in a task."""
        self._task = self._reactor.spawn(self._open())

    async def _open(self) -> None:
        try:
            connection = await self._connect()
        except asyncio.CancelledError:
            if not self._ended:
                self._drop()
            return
        except BaseException as error:
            self._ended = True
            self._drop()
            # aiormq reports a close in the middle of its handshake as an unexpected frame, without its text.
            self.events.failed(self._told() or error)
            return
        self._connection = connection
        self._opened = True
        self.frame_max = self._aiormq().connection_tune.frame_max or 131072
        self.lane.frame_max = self.frame_max
        self.events.opened(self)

    async def _connect(self) -> aio_pika.Connection:
        # Made from parsed values: nothing of the user's URL reaches the driver.
        url = URL.build(
            scheme="amqp",
            host=self._way.host,
            port=self._way.port,
            user=self._way.login.user,
            password=self._way.login.password.reveal(),
            path="/" + self._options.vhost.replace("%", "%25").replace("/", "%2F")
            if self._options.vhost != "/"
            else "/",
            query={
                "heartbeat": str(self._options.heartbeat),
                "name": self._name,
                "auth": self._options.auth_mechanism,
            },
            encoded=False,
        )
        connection = aio_pika.Connection(url)
        connection.kwargs["transport_factory"] = SocketFactory(self, self._way)
        await connection.connect(timeout=self._options.connect_timeout)
        return connection

    def _aiormq(self) -> Any:
        assert self._connection is not None
        assert self._connection.transport is not None
        return self._connection.transport.connection

    # -- the session ------------------------------------------------------------------------------------

    def attach(self, number: int, channel: LaneChannel) -> None:
        """The lane takes the frames of this channel."""
        self.lane.channels[number] = channel

    def detach(self, number: int) -> None:
        """No more."""
        self.lane.release(number)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self.transport is not None and not self._ended:
            self.transport.write(data)

    def buffered(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def run(self, steps: port.Steps[T], done: Callable[[T | None, Exception | None], None]) -> None:
        """Drive a sequence in a task."""
        self._reactor.spawn(self._run(steps, done))

    async def _run(self, steps: port.Steps[Any], done: Callable[[Any, Exception | None], None]) -> None:
        value: Any = None
        error: Exception | None = None
        while True:
            try:
                operation = steps.throw(error) if error is not None else steps.send(value)
            except StopIteration as end:
                done(end.value, None)
                return
            except Exception as failure:
                done(None, failure)
                return
            value = error = None
            try:
                value = await perform(self._aiormq(), operation)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._ended or (task is not None and task.cancelling()):
                    return  # a lost connection ends the sequence: its owner is told of the loss
                error = ConnectionFailed("the connection was lost")
            except EventBusError as failure:
                error = failure
            except ChannelClosed as failure:
                code, text = told_by_close(failure)
                error = channel_error(code, text, describe(operation))[0]
            except Exception as failure:
                if self._ended:
                    return
                error = ConnectionFailed(f"{describe(operation)}: {failure}")

    # -- the end ----------------------------------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        """The peer does not speak AMQP as agreed."""
        self._failure = error
        self.abort()

    def ended(self, error: Exception | None) -> None:
        """The socket is closed."""
        if self._ended:
            return
        if self._opened:
            self._ended = True
            reason = self._told() or error
            self._drop()
            self.events.lost(reason)
        elif error is not None and self._failure is None:
            self._failure = error  # aiormq tells it as an end of file, which hides a TLS alert

    def _told(self) -> Exception | None:
        """What the broker or the lane said of the end."""
        lane = getattr(self, "lane", None)
        return self._failure or (lane.closed if lane is not None else None)

    def update_secret(self, secret: str, done: Callable[[Exception | None], None]) -> None:
        """Give the broker a new password or token."""
        self._reactor.spawn(self._update_secret(secret, done))

    async def _update_secret(self, secret: str, done: Callable[[Exception | None], None]) -> None:
        try:
            await update_secret(self._aiormq(), secret, self._options.connect_timeout)
        except Exception as error:
            done(error)
        else:
            done(None)

    def close(self) -> None:
        """Close in order."""
        self._reactor.spawn(self._close())

    async def _close(self) -> None:
        try:
            if self._connection is not None:
                await self._connection.close()
        except (Exception, asyncio.CancelledError):
            self.abort()

    def abort(self) -> None:
        """Close the socket now."""
        if self._task is not None and not self._opened:
            self._task.cancel()
        if self.transport is not None:
            self.transport.abort()

    def _drop(self) -> None:
        """Let aiormq end its tasks."""
        if self.transport is not None:
            self.transport.abort()
        if self._connection is not None:
            self._reactor.spawn(self._close_quietly(self._connection))

    @staticmethod
    async def _close_quietly(connection: aio_pika.Connection) -> None:
        try:
            async with asyncio.timeout(1.0):
                await connection.close()
        except (Exception, asyncio.CancelledError) as error:
            log.debug("aio-pika ended its connection with %r", error)
