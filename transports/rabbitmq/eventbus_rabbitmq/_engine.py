"""The engine: two supervised connections, what is published on one and consumed on the other.

Single-threaded and without waiting; it runs on a pika I/O thread or on an asyncio loop, by way of the port.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial

from eventbus import ConnectionFailed
from eventbus._message import Incoming
from eventbus._supervisor import Backoff, Phase, Policy
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
from eventbus_rabbitmq._connection import SupervisedConnection
from eventbus_rabbitmq._consumer import Consumer
from eventbus_rabbitmq._contexts import Contexts
from eventbus_rabbitmq._copies import Copies
from eventbus_rabbitmq._errors import existing
from eventbus_rabbitmq._mapping import HeaderEncoder
from eventbus_rabbitmq._operations import DIRECT_REPLY_TO, Declarer, count
from eventbus_rabbitmq._options import RabbitMQOptions
from eventbus_rabbitmq._port import Reactor, Session, Timer
from eventbus_rabbitmq._preparing import prepare
from eventbus_rabbitmq._publisher import Outgoing
from eventbus_rabbitmq._publishing import Publishing

log = logging.getLogger("eventbus.rabbitmq")

# Attempts end soon, so that a broker that comes back is found soon.
CONSUMER_POLICY = Policy(backoff=Backoff(), attempt_timeout=30.0)


DAY_SECONDS = 86400.0


class Engine:
    """Everything of one link, on one thread or loop.

    ``ack_linger`` is how many seconds an ack may wait for others, as long as the broker has leave to send more.
    """

    def __init__(
        self,
        reactor: Reactor,
        options: RabbitMQOptions,
        settings: LinkSettings,
        contexts: Contexts,
        on_status: StatusListener,
        *,
        ack_linger: float = 0.0,
    ) -> None:
        self._reactor = reactor
        self._ack_linger = ack_linger
        self._consumer_timeout = options.consumer_timeout
        self._settings = settings
        self._contexts = contexts
        self._on_status = on_status
        self._declarer = Declarer(
            queue_type=options.queue_type, declare=options.declare, queue_exchange=options.queue_exchange
        )
        # What has come within the limit must also go back.
        prepare_copy = partial(
            prepare,
            HeaderEncoder(),
            max_body=settings.max_body + 1,
            service=settings.service,
            queue_exchange=options.queue_exchange,
        )
        hosts = list(options.hosts)
        random.shuffle(hosts)
        policy = Policy(backoff=options.backoff, attempt_timeout=options.connect_timeout)
        self._publish_side = SupervisedConnection(
            reactor, hosts, options, contexts, policy, "publish", self._publish_up, self._publish_down, self._changed
        )
        self._consume_side = SupervisedConnection(
            reactor, hosts, options, contexts, policy, "consume", self._consume_up, self._consume_down, self._changed
        )
        self._publish_side.on_blocked = self._blocked
        self.publishing = Publishing(reactor, self._declarer, self._publish_side.why_not, resend=settings.resend)
        if options.queue_exchange:
            self.publishing.destinations.declare(self._declarer.queue_exchange)
        self._copies = Copies(reactor, prepare_copy, self.publishing, self._flush)
        self._consumers: dict[str, Consumer] = {}
        self.closing = False
        self._each_day: Timer | None = None
        self._changes = False

    # -- connections ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect."""
        self._publish_side.start()
        if self._each_day is None:
            self._daily()

    def _daily(self) -> None:
        self._contexts.warn()
        self._each_day = self._reactor.call_later(DAY_SECONDS, self._daily)

    def _publish_up(self, session: Session) -> None:
        assert self._publish_side.control is not None
        self.publishing.connected(session, self._publish_side.control)

    def _publish_down(self, error: Exception) -> None:
        self.publishing.disconnected()

    def _consume_up(self, session: Session) -> None:
        for consumer in self._consumers.values():
            consumer.connected(session)

    def _consume_down(self, error: Exception) -> None:
        for consumer in self._consumers.values():
            consumer.disconnected(error)

    def _blocked(self, reason: str | None) -> None:
        if reason is not None:
            log.warning("the broker blocks publishing: %s", reason)
        else:
            log.info("the broker takes publishes again")
        self.publishing.set_blocked(reason)
        self._changed()

    def _changed(self) -> None:
        # Told once for all changes of a turn: a thousand consumers that start must not tell of a thousand each time.
        if self.closing:
            self._tell_status()
        elif not self._changes:
            self._changes = True
            self._reactor.call_soon(self._tell_status)

    def _tell_status(self) -> None:
        self._changes = False
        self._on_status(self.status())

    # -- what the bus asks ------------------------------------------------------------------------------

    def declare(self, topology: Topology) -> None:
        """Exchanges that publishing needs; declared before their first message."""
        for exchange in topology.exchanges:
            self.publishing.destinations.declare(exchange)

    def publish(self, outgoing: Outgoing, reply_to: str | None) -> None:
        """Send a prepared message."""
        if reply_to == DIRECT_REPLY_TO:
            outgoing.by = next((c.direct for c in self._consumers.values() if c.spec.direct_reply), None)
        self.publishing.publish(outgoing)

    def consume(self, spec: ConsumerSpec, listener: ConsumerListener) -> None:
        """Keep a consumer running."""
        consumer = Consumer(
            spec, listener, self._reactor, CONSUMER_POLICY, self._declarer, self._copies.publish, self._changed,
            self._settings.max_body, self._ack_linger, self._consumer_timeout,
        )  # fmt: skip
        self._consumers[spec.name] = consumer
        for exchange in spec.topology.exchanges:
            self.publishing.destinations.declare(exchange)
        session = self._consume_side.session
        if session is not None:
            consumer.connected(session)
        else:
            self._consume_side.start()
        self._changed()

    def release(self, name: str) -> None:
        """End a consumer, once its settlements are carried out."""
        consumer = self._consumers.get(name)
        if consumer is None:
            return

        def ended() -> None:
            if self._consumers.get(name) is consumer:
                del self._consumers[name]
            self._changed()

        consumer.release(ended)

    def count_consumers(self, queue: str, done: Callable[[int | None], None]) -> None:
        """Ask how many consumers a queue has."""
        control = self._consume_side.control
        if control is None:
            done(None)
        else:
            control.run(
                lambda channel: count(channel, queue), lambda found, error: done(found.consumers if found else None)
            )

    def count(self, name: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """Ask what the queue of a consumer holds, behind its settlements."""
        consumer = self._consumers.get(name)
        if consumer is None:
            done(ConnectionFailed(f"there is no consumer {name!r}"))
        else:
            consumer.count(done)

    def count_queue(self, queue: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """Ask what a queue holds."""
        control = self._publish_side.control
        if control is None:
            done(ConnectionFailed("not connected"))
        else:
            control.run(lambda channel: count(channel, queue), lambda found, error: done(found or existing(error)))

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call after so many seconds, unless the link is closed by then."""
        self._reactor.call_later(seconds, lambda: None if self.closing else function())

    def settle(self, incoming: Incoming, settlement: Settlement) -> None:
        """Settle a delivery."""
        consumer = self._consumers.get(incoming.consumer)
        if consumer is not None:
            consumer.settling.settle(incoming, settlement)

    def reconnect(self) -> None:
        """Close both connections in order and open them again: with the TLS files and credentials of now."""
        self._publish_side.reconnect()
        self._consume_side.reconnect()

    # -- state ------------------------------------------------------------------------------------------

    def status(self) -> LinkStatus:
        """A snapshot."""
        sides = [self._publish_side, *([self._consume_side] if self._consumers else [])]
        worst = max(sides, key=lambda side: _SEVERITY[side.keeper.phase])
        return LinkStatus(
            phase=worst.keeper.phase,
            error=worst.keeper.error if worst.keeper.phase is not Phase.READY else None,
            blocked=self.publishing.blocked,
            consumers={name: consumer.status() for name, consumer in self._consumers.items()},
            unconfirmed=self.publishing.pending(),
            reconnects=sum(max(0, side.keeper.state.generation - 1) for side in sides),
            certificate_expires=self._contexts.expires,
            overlong=sum(consumer.overlong for consumer in self._consumers.values()),
            stale_settlements=sum(consumer.settling.stale for consumer in self._consumers.values()),
        )

    def not_ready(self) -> tuple[Exception | None, bool] | None:
        """None when everything runs; else the error that is in the way, and whether it is terminal."""
        status = self.status()
        if status.phase is Phase.FAILED:
            return status.error, True
        for consumer in status.consumers.values():
            if consumer.phase is Phase.FAILED:
                return consumer.error, True
        if status.phase is not Phase.READY:
            return status.error, False
        for consumer in status.consumers.values():
            if consumer.phase is not Phase.READY:
                return consumer.error, False
        return None

    # -- the end ----------------------------------------------------------------------------------------

    def stop_consuming(self, done: Callable[[], None]) -> None:
        """Cancel all consumers but ordered ones and that of replies."""
        consumers = [c for c in self._consumers.values() if not (c.spec.replies or c.spec.ordered)]
        left = len(consumers)
        if not left:
            done()
            return

        def one() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                done()

        for consumer in consumers:
            consumer.cancel(one)

    def when_flushed(self, done: Callable[[], None]) -> None:
        """Call when the copies and answers under way have their outcome."""
        self._copies.when_none(done)

    def _flush(self) -> None:
        for consumer in self._consumers.values():
            consumer.settling.flush()

    def close(self, done: Callable[[], None]) -> None:
        """Close both connections in order."""
        self.closing = True
        if self._each_day is not None:
            self._each_day.cancel()
        for consumer in self._consumers.values():
            consumer.settling.flush()
            consumer.end()
        self.publishing.close()
        sides = [self._publish_side, self._consume_side]
        left = len(sides)

        def one() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                done()

        for side in sides:
            side.close(one)

    def abort(self) -> None:
        """Close the sockets now."""
        self._publish_side.abort()
        self._consume_side.abort()


_SEVERITY = {
    phase: severity
    for severity, phase in enumerate(
        (Phase.READY, Phase.CONNECTING, Phase.WAITING, Phase.IDLE, Phase.CLOSING, Phase.CLOSED, Phase.FAILED)
    )
}
