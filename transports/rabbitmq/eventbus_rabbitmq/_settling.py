"""What becomes of the deliveries of one consumer: acks, joined; returns; and copies, confirmed before the ack."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from eventbus import PublishError
from eventbus._message import Incoming, Message
from eventbus.transport import (
    Ack,
    ConsumerSpec,
    DeadLetter,
    Requeue,
    RetryIn,
    Settlement,
    dead_letter_copy,
    retry_copy,
)
from eventbus_rabbitmq._life import Life
from eventbus_rabbitmq._mapping import without_brokers_own
from eventbus_rabbitmq._operations import Declarer
from eventbus_rabbitmq._port import Reactor, Timer
from eventbus_rabbitmq._waiting import Wait, delay_step, held_copy, split, wait_queue_name
from eventbus_rabbitmq._wire.frames import nack_frame, reject_frame

log = logging.getLogger("eventbus.rabbitmq")

REQUEUE_PAUSE = 1.0

Alive = Callable[[], bool]
Republish = Callable[[Message, Wait | None, Alive, Callable[[PublishError | None], None]], None]
"""``(copy, where it waits, is the original alive, done)``"""


def acks_at_once(prefetch: int) -> int:
    """Acks that are written without waiting for more: what the broker may send must never run out meanwhile."""
    return max(1, prefetch // 4)


class Settling:
    """Carries out settlements on the channel that each delivery came by."""

    def __init__(
        self, spec: ConsumerSpec, declarer: Declarer, reactor: Reactor, republish: Republish, linger: float
    ) -> None:
        self._spec = spec
        self._linger = linger
        self._at_once = acks_at_once(spec.prefetch)
        self._timer: Timer | None = None
        self._settles = not (spec.auto_ack or spec.direct_reply)
        self._declarer = declarer
        self._reactor = reactor
        self._republish = republish
        self._unwritten: Life | None = None
        self._flush_soon = False
        self._copies = 0
        self._when_copied: list[Callable[[], None]] = []
        self.stale = 0
        """Settlements that came too late: the broker hands those messages out again."""

    def settle(self, incoming: Incoming, settlement: Settlement) -> None:
        """Settle a delivery, if its channel lives."""
        life, tag = incoming.token
        if not self._settles:
            return
        if not life.alive or tag not in life.acks:
            self.stale += 1
            return
        match settlement:
            case Ack():
                self._ack(life, tag)
            case Requeue():
                self._now(life, tag, nack_frame(life.number, tag, requeue=True))
            case RetryIn(delay):
                self._retry(life, tag, incoming, delay)
            case DeadLetter(verbatim=verbatim):
                dead = self._spec.queue.dead_letter
                if verbatim or not dead:
                    self._now(life, tag, reject_frame(life.number, tag))
                else:
                    self._copy(life, tag, dead_letter_copy(incoming, settlement, dead), None)

    def _retry(self, life: Life, tag: int, incoming: Incoming, delay: float) -> None:
        copy = retry_copy(incoming)
        if delay <= 0:
            self._copy(life, tag, copy, None)
        elif not self._spec.queue.name:
            # A server-named queue dies with us, so its copies wait here.
            self._reactor.call_later(delay, lambda: self._copy(life, tag, copy, None))
        else:
            # A time to live would end the wait early.
            self._copy(life, tag, msgspec.structs.replace(copy, ttl=None), delay_step(delay))

    def hold(self, incoming: Incoming, seconds: float, deliver: Callable[[Incoming], None]) -> None:
        """Let a delivery that has come before its time wait for the rest of it."""
        life, tag = incoming.token
        if not self._settles or not self._spec.queue.name:  # gone from the broker, or as soon as we are
            self._reactor.call_later(seconds, lambda: deliver(incoming) if life.alive else None)
            return
        step, rest = split(seconds)
        self._copy(life, tag, held_copy(incoming, rest), step)

    def _copy(self, life: Life, tag: int, copy: Message, seconds: float | None) -> None:
        """Put the copy in its place; the original is acked once that is confirmed."""

        def alive() -> bool:
            return life.alive and tag in life.acks

        def done(error: PublishError | None) -> None:
            try:
                settled(error)
            finally:
                self._copied()

        def settled(error: PublishError | None) -> None:
            if not alive():
                return
            if error is None:
                self._ack(life, tag)
                return
            log.error(
                "%s: a copy for %r was not taken, the message goes back to its queue: %s",
                self._spec.name, copy.topic, error,
            )  # fmt: skip
            self._reactor.call_later(REQUEUE_PAUSE, back)

        def back() -> None:
            if alive():
                self._now(life, tag, nack_frame(life.number, tag, requeue=True))

        if alive():
            self._copies += 1
            wait = None if seconds is None else self._wait(copy.topic, seconds)
            self._republish(without_brokers_own(copy), wait, alive, done)

    def when_copied(self, function: Callable[[], None]) -> None:
        """Call when no copy is under way."""
        self._when_copied.append(function)
        self._copies += 1
        self._copied()

    def _copied(self) -> None:
        self._copies -= 1
        while self._when_copied and not self._copies:
            self._when_copied.pop(0)()

    def _wait(self, queue: str, seconds: float) -> Wait:
        return Wait(
            name=wait_queue_name(queue, seconds),
            seconds=seconds,
            to=self._declarer.queue_exchange.name,
            topic=queue,
            like=self._declarer.type_of(self._spec.queue),
        )

    def _ack(self, life: Life, tag: int) -> None:
        life.acks.ack(tag)
        if self._unwritten is not life:
            self._unwritten = life
            self._flush_soon = False
            if self._linger and self._timer is None:
                self._timer = self._reactor.call_later(self._linger, self.flush)
        if not self._flush_soon and (not self._linger or life.acks.given >= self._at_once):
            self._flush_soon = True
            self._reactor.call_soon(self.flush)

    def flush(self) -> None:
        """Write the acks that have been given."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        life, self._unwritten = self._unwritten, None
        if life is not None and life.alive:
            life.acks.flush(life.session.write)

    def _now(self, life: Life, tag: int, frame: bytes) -> None:
        self.flush()
        life.acks.forget(tag)
        life.session.write(frame)
