"""The link for asyncio: the engine runs on the loop itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from eventbus import BusClosed, ConnectionFailed, PublishError
from eventbus._message import Incoming, Message
from eventbus._topology import Topology
from eventbus.transport import (
    ConsumerListener,
    ConsumerSpec,
    LinkSettings,
    LinkStatus,
    QueueCount,
    Settlement,
    StatusListener,
)
from eventbus_rabbitmq._aio_pika import AsyncioReactor
from eventbus_rabbitmq._contexts import Contexts
from eventbus_rabbitmq._engine import Engine
from eventbus_rabbitmq._mapping import HeaderEncoder
from eventbus_rabbitmq._options import RabbitMQOptions
from eventbus_rabbitmq._preparing import prepare

# Acks wait this long for others: one write for many, and half the system calls where messages come one by one.
ACK_LINGER = 0.002


class RabbitMQAsyncLink:
    """See :class:`eventbus.transport.AsyncLink`."""

    def __init__(self, options: RabbitMQOptions, settings: LinkSettings, on_status: StatusListener) -> None:
        self._on_status = on_status
        self._contexts = Contexts(options.tls)
        self._reactor = AsyncioReactor(options, settings.service)
        self._engine = Engine(self._reactor, options, settings, self._contexts, self._changed, ack_linger=ACK_LINGER)
        self._prepare = partial(
            prepare,
            HeaderEncoder(),
            max_body=settings.max_body,
            service=settings.service,
            queue_exchange=options.queue_exchange,
        )
        self._change = asyncio.Event()
        self._closed = False

    def _changed(self, status: LinkStatus) -> None:
        self._change.set()
        self._on_status(status)

    def open(self) -> None:
        """Begin to connect."""
        if not self._closed:
            self._engine.open()

    def declare(self, topology: Topology) -> None:
        """Exchanges that publishing needs."""
        self._engine.declare(topology)

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
        self._engine.publish(outgoing, message.reply_to)

    def consume(self, spec: ConsumerSpec, listener: ConsumerListener) -> None:
        """Keep a consumer running."""
        self._engine.consume(spec, listener)

    def release(self, name: str) -> None:
        """End one consumer; what it holds goes back in one step."""
        self._engine.release(name)

    def count_consumers(self, queue: str, done: Callable[[int | None], None]) -> None:
        """Ask the broker how many consumers a queue has."""
        self._engine.count_consumers(queue, done)

    def count(self, consumer: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """Ask what the queue of one of the link's consumers holds, behind its settlements."""
        self._engine.count(consumer, done)

    def count_queue(self, queue: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """Ask what a queue holds, by its name."""
        self._engine.count_queue(queue, done)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call after so many seconds."""
        self._engine.later(seconds, function)

    def settle(self, incoming: Incoming, settlement: Settlement) -> None:
        """Tell the broker what became of a delivery."""
        self._engine.settle(incoming, settlement)

    def reload_tls(self) -> None:
        """Connect anew with the TLS files as they are now."""
        self._contexts.check()
        self._engine.reconnect()

    def status(self) -> LinkStatus:
        """A snapshot."""
        return self._engine.status()

    async def wait_ready(self, timeout: float) -> None:
        """Until connected and every consumer runs."""
        error: Exception | None = None
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._change.clear()
                    found = self._engine.not_ready()
                    if found is None:
                        return
                    error, terminal = found
                    if error is not None and terminal:
                        raise error
                    await self._change.wait()
        except TimeoutError:
            raise ConnectionFailed(
                f"not ready after {timeout:g} s: {error or 'no answer from the broker yet'}"
            ) from error

    async def _ask(self, begin: Callable[[Callable[[], None]], None], timeout: float) -> bool:
        done = asyncio.Event()
        begin(done.set)
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                await done.wait()
        except TimeoutError:
            return done.is_set()
        return True

    async def stop_consuming(self, timeout: float) -> None:
        """Cancel all consumers but ordered ones and that of replies."""
        if not self._closed:
            await self._ask(self._engine.stop_consuming, timeout)

    async def flush(self, timeout: float) -> bool:
        """Until settlements are written and their copies confirmed."""
        return self._closed or await self._ask(self._engine.when_flushed, timeout)

    async def close(self, timeout: float) -> None:
        """Close within ``timeout`` seconds."""
        if self._closed:
            return
        self._closed = True
        if not await self._ask(self._engine.close, timeout):
            self._engine.abort()
        tasks = set(self._reactor.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=0.5)
        for task in set(self._reactor.tasks):
            task.cancel()
        if self._reactor.tasks:
            await asyncio.wait(set(self._reactor.tasks), timeout=0.5)
