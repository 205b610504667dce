"""Deliberately broken variants of the real transport, a few lines each, put in place inside the programs under test.

Each is what a tired programmer might have written. The suite must catch every one (:mod:`tests.faults.controls`).
"""

from __future__ import annotations

import logging
import time
from typing import Any

import msgspec
from eventbus_rabbitmq import _publisher
from eventbus_rabbitmq._async_link import RabbitMQAsyncLink
from eventbus_rabbitmq._consumer import Consumer
from eventbus_rabbitmq._publisher import Outgoing, Publisher
from eventbus_rabbitmq._publishing import Publishing
from eventbus_rabbitmq._settling import Settling
from eventbus_rabbitmq._sync_link import RabbitMQSyncLink
from eventbus_rabbitmq._wire import frames
from eventbus_rabbitmq._wire.frames import ack_frame

from eventbus import ConnectionFailed, PublishUnknown
from eventbus._bus._async_feeds import Feed
from eventbus._bus._async_windows import AsyncWindow
from eventbus._bus._dispatch import Dispatch
from eventbus._bus._windows import Window
from eventbus._bus._workers import Slots
from eventbus._supervisor import FailureKind
from eventbus.transport import Ack, ConsumerSpec, DeadLetter, Requeue, RetryIn
from tests.faults.programs.common import Program


def ack_before_handler(program: Program) -> None:
    """A delivery is acked when it arrives."""
    real = Dispatch.open

    def open_(self: Dispatch, *arguments: Any) -> Any:
        delivery = real(self, *arguments)
        self.settle(delivery, Ack())
        return delivery

    Dispatch.open = open_  # type: ignore[assignment, method-assign]


def confirm_on_write(program: Program) -> None:
    """A publish is confirmed when it is written."""
    real = Publisher.send

    def send(self: Publisher, outgoing: Outgoing) -> None:
        real(self, outgoing)
        self.unconfirmed.pop(self._tag)
        self._confirmed(outgoing, None)

    Publisher.send = send  # type: ignore[method-assign]


def mandatory_off(program: Program) -> None:
    """Messages are published without the mandatory flag: what no queue takes is confirmed all the same."""
    real = frames.publish_method
    vars(_publisher)["publish_method"] = lambda exchange, topic: real(exchange, topic)[:-1] + b"\x00"


def stale_ack_sent(program: Program) -> None:
    """The ack of a delivery of a lost channel goes out on the new one."""
    real = Settling.settle

    def settle(self: Settling, incoming: Any, settlement: Any) -> None:
        life, tag = incoming.token
        new = life.consumer._life
        if life.alive or new is None:
            real(self, incoming, settlement)
        else:
            new.session.write(ack_frame(new.number, tag))

    Settling.settle = settle  # type: ignore[method-assign]


def resend_off(program: Program) -> None:
    """What was not confirmed on a lost channel is given up."""
    real = Publishing._take_back

    def take_back(self: Publishing) -> None:
        for outgoing in list(self._publisher.unconfirmed.values()) if self._publisher is not None else ():
            outgoing.done(PublishUnknown("the connection was lost"))
        if self._publisher is not None:
            self._publisher.unconfirmed.clear()
        real(self)

    Publishing._take_back = take_back  # type: ignore[method-assign]


def prefetch_unlimited(program: Program) -> None:
    """Consumers ask for prefetch 0, which means no limit."""
    real = Consumer.__init__

    def init(self: Consumer, spec: ConsumerSpec, *rest: Any) -> None:
        real(self, msgspec.structs.replace(spec, prefetch=0), *rest)

    Consumer.__init__ = init  # type: ignore[assignment, method-assign]


def concurrency_ignored(program: Program) -> None:
    """Four times as many handlers run at once as were allowed."""
    slots = Slots.__init__
    Slots.__init__ = lambda self, many, *rest, **more: slots(self, 4 * many, *rest, **more)  # type: ignore[method-assign]
    feed = Feed.__init__

    def init(self: Feed, *arguments: Any, **more: Any) -> None:
        feed(self, *arguments, **more)
        self.free *= 4

    Feed.__init__ = init  # type: ignore[method-assign]


def window_ignored(program: Program) -> None:
    """Publishing never waits for a place."""

    async def enter(self: AsyncWindow, deadline: float) -> bool:
        return True

    Window.enter = lambda self, deadline: True  # type: ignore[method-assign]
    AsyncWindow.enter = enter  # type: ignore[method-assign]
    AsyncWindow.enter_now = lambda self: True  # type: ignore[method-assign]


def server_cancel_ignored(program: Program) -> None:
    """Nobody listens when the broker cancels a consumer."""
    Consumer.cancelled_by_broker = lambda self, life: None  # type: ignore[method-assign]


def nack_taken_for_ack(program: Program) -> None:
    """A message that the broker refuses is reported as confirmed."""
    real = Publisher._settle
    Publisher._settle = lambda self, tag, multiple, error: real(self, tag, multiple, None)  # type: ignore[method-assign]


def drop_on_failure(program: Program) -> None:
    """What a handler has failed on is acked, and so is gone."""
    real = Settling.settle

    def settle(self: Settling, incoming: Any, settlement: Any) -> None:
        real(self, incoming, Ack() if isinstance(settlement, RetryIn) else settlement)

    Settling.settle = settle  # type: ignore[method-assign]


def requeue_undecodable(program: Program) -> None:
    """What cannot be decoded goes back to the head of its queue, again and again."""
    real = Settling.settle

    def settle(self: Settling, incoming: Any, settlement: Any) -> None:
        real(self, incoming, Requeue() if isinstance(settlement, DeadLetter) else settlement)

    Settling.settle = settle  # type: ignore[method-assign]


def ack_undecodable(program: Program) -> None:
    """What cannot be decoded is acked."""
    real = Settling.settle

    def settle(self: Settling, incoming: Any, settlement: Any) -> None:
        real(self, incoming, Ack() if isinstance(settlement, DeadLetter) else settlement)

    Settling.settle = settle  # type: ignore[method-assign]


def close_unbounded(program: Program) -> None:
    """Stopping and closing wait for the broker's answers, for as long as that takes."""
    sync_ask, async_ask = RabbitMQSyncLink._ask, RabbitMQAsyncLink._ask
    RabbitMQSyncLink._ask = lambda self, begin, timeout: sync_ask(self, begin, 3600.0)  # type: ignore[method-assign]
    RabbitMQAsyncLink._ask = lambda self, begin, timeout: async_ask(self, begin, 3600.0)  # type: ignore[method-assign]


def close_leaks(program: Program) -> None:
    """Closing forgets the connections, and leaves them open."""

    async def nothing(self: RabbitMQAsyncLink, timeout: float) -> None:
        return None

    RabbitMQSyncLink.close = lambda self, timeout: None  # type: ignore[method-assign]
    RabbitMQAsyncLink.close = nothing  # type: ignore[method-assign]


def mismatch_swallowed(program: Program) -> None:
    """A queue with other properties is tried for ever, and nobody is told."""

    def failed(self: Consumer, token: int, error: Exception) -> None:
        self.keeper.failed(token, ConnectionFailed("not yet"), FailureKind.TRANSIENT)

    Consumer._failed = failed  # type: ignore[method-assign]


def handlers_block_io(program: Program) -> None:
    """Handlers run where the connection is served: on the I/O thread, or blocking the loop."""
    Slots.put = lambda self, item: self._work(item)  # type: ignore[method-assign]

    async def sleep(seconds: float, result: Any = None) -> Any:
        time.sleep(seconds)
        return result

    program.sleep = sleep


def driver_errors_escape(program: Program) -> None:
    """A publish past its deadline ends by whatever the system said."""

    def expire(self: Publishing, late: list[Outgoing]) -> None:
        for outgoing in late:
            outgoing.done(TimeoutError("timed out"))  # type: ignore[arg-type]

    Publishing._expire = expire  # type: ignore[method-assign]


def returns_mistaken(program: Program) -> None:
    """A message that comes back as unroutable is taken for the one that was sent last."""
    real = Publisher._on_return

    def on_return(self: Publisher, *arguments: Any) -> None:
        real(self, *arguments)
        returned = [outgoing for outgoing in self.unconfirmed.values() if outgoing.returned is not None]
        last = next(reversed(self.unconfirmed.values()), None)
        if returned and last is not None and len(self.unconfirmed) > 1:
            last.returned, returned[0].returned = returned[0].returned, None

    Publisher._on_return = on_return  # type: ignore[assignment, method-assign]


def url_logged(program: Program) -> None:
    """The URL, with its password, is logged at the start."""
    logging.getLogger("eventbus").info("connecting to %s", program.settings.url)
