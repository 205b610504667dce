"""The consume side of the engine: one consumer with its channel, its open deliveries and their settlements."""

from __future__ import annotations

import logging
from collections.abc import Callable

from eventbus import AccessRefused, ConnectionFailed, NotSent, PublishError, PublishUnknown, TopologyMismatch
from eventbus._message import Incoming
from eventbus._supervisor import FailureKind, Phase, Policy
from eventbus.transport import (
    ConsumerListener,
    ConsumerSpec,
    ConsumerStatus,
    QueueCount,
)
from eventbus_rabbitmq._arriving import arrived
from eventbus_rabbitmq._errors import MissingEntity, channel_error
from eventbus_rabbitmq._keeper import Keeper
from eventbus_rabbitmq._life import Life
from eventbus_rabbitmq._operations import CONSUMER_TAG, Declarer, close_channel, count
from eventbus_rabbitmq._overlong import LOOKS, Overlong
from eventbus_rabbitmq._port import (
    CancelConsumer,
    ConfirmSelect,
    OpenChannel,
    Reactor,
    Session,
    Steps,
    Timer,
)
from eventbus_rabbitmq._publisher import Outgoing, Publisher
from eventbus_rabbitmq._recognising import Recognised
from eventbus_rabbitmq._settling import Republish, Settling
from eventbus_rabbitmq._wire.properties import Properties

log = logging.getLogger("eventbus.rabbitmq")


class Consumer:
    """A consumer that shall run: kept up by a supervisor of its own, so that one bad queue stops no other."""

    def __init__(
        self,
        spec: ConsumerSpec,
        listener: ConsumerListener,
        reactor: Reactor,
        policy: Policy,
        declarer: Declarer,
        republish: Republish,
        changed: Callable[[], None],
        max_body: int,
        linger: float,
        timeout: float,
    ) -> None:
        self.spec = spec
        self.settling = Settling(spec, declarer, reactor, republish, linger)
        self._listener = listener
        self._reactor = reactor
        self._declarer = declarer
        self._queue_exchange = declarer.queue_exchange.name
        self._max_body = max_body
        self._session: Session | None = None
        self._life: Life | None = None
        self._timeout = timeout
        self._changed = changed
        self._looking: Timer | None = None
        self.overlong = False
        """Whether a delivery has been open for so long that the broker will soon lose its patience."""
        self.cancelled = False
        self.keeper = Keeper(
            reactor, policy, open=self._open, abort=self._abort, close=self._abort, lost=self._lost, changed=changed
        )

    def status(self) -> ConsumerStatus:
        """Where it stands."""
        queue = self._life.queue if self._life is not None else ""
        return ConsumerStatus(phase=self.keeper.phase, queue=queue, error=self.keeper.error)

    # -- life and death ---------------------------------------------------------------------------------

    def connected(self, session: Session) -> None:
        """A connection is there; begin, or begin anew."""
        self._session = session
        if not self.cancelled:
            if self.keeper.phase is Phase.IDLE:
                self.keeper.start()
            elif self.keeper.phase is Phase.WAITING:
                self.keeper.hurry()

    def disconnected(self, error: Exception) -> None:
        """The connection is gone, and all that was open on it."""
        self._session = None
        life = self._end_life()
        if self.cancelled:
            self.keeper.stop()
            self.keeper.closed()
        elif self.keeper.phase in (Phase.READY, Phase.CONNECTING):
            self.keeper.lost(self.keeper.state.token, error, FailureKind.TRANSIENT)
        if life is not None:
            self._listener.stopped(error)

    def _open(self, token: int, address: int) -> None:
        session = self._session
        if session is None:
            self.keeper.failed(token, ConnectionFailed("not connected"), FailureKind.TRANSIENT)
            return
        made: list[Life] = []

        def steps() -> Steps[str]:
            channel, number = yield OpenChannel()
            life = Life(self, session, channel, number, self._max_body)
            made.append(life)
            self._life = life
            session.attach(number, life)  # before consuming: the first delivery may be in the same packet
            if self.spec.direct_reply:
                yield ConfirmSelect(channel)
                life.publisher = Publisher(number, session.frame_max, session.write, _outcome, _nothing)
            queue = yield from self._declarer.consumer(channel, self.spec)
            life.queue = queue
            return queue

        def finished(queue: str | None, error: Exception | None) -> None:
            if token != self.keeper.state.token or self.keeper.phase is not Phase.CONNECTING:
                return
            if queue is None:
                self._end_life()
                self._failed(token, error or ConnectionFailed("the consumer could not be started"))
                return
            self.keeper.opened(token)
            self._listener.started(queue)
            self._watch(made[0], Overlong(self._timeout))

        session.run(steps(), finished)

    def _watch(self, life: Life, overlong: Overlong) -> None:
        before, self.overlong = self.overlong, overlong.look(life.acks, life.queue, self._reactor.now())
        if before is not self.overlong:
            self._changed()
        self._looking = self._reactor.call_later(self._timeout / LOOKS, lambda: self._watch(life, overlong))

    def _failed(self, token: int, error: Exception) -> None:
        kind = FailureKind.TRANSIENT
        if isinstance(error, MissingEntity):
            advice = "" if self.spec.inspect else "; declare it, or use declare=create in the URL"
            error = TopologyMismatch(f"{error}{advice}")
        if isinstance(error, (TopologyMismatch, AccessRefused)):
            kind = FailureKind.FATAL
        self.keeper.failed(token, error, kind)

    def channel_closed(self, life: Life, code: int, text: str) -> None:
        """The broker closed the channel of a running consumer."""
        if life is not self._life or self.keeper.phase is not Phase.READY:
            return  # while opening, the sequence itself gets the error
        error, kind = channel_error(code, text, f"consumer of queue {life.queue!r}")
        log.warning("%s: %s", self.spec.name, error)
        # Whatever it was (a delivery that took too long, a deleted queue): begin again, and then see.
        self._gone(error, FailureKind.TRANSIENT if kind is not FailureKind.REFUSED else kind)

    def cancelled_by_broker(self, life: Life) -> None:
        """The broker cancelled the consumer: its queue was deleted, or its leader moved."""
        if life is not self._life:
            return
        log.warning("%s: the broker cancelled the consumer of queue %r", self.spec.name, life.queue)
        if self._session is not None:
            close_channel(self._session, life.channel)
        self._gone(
            ConnectionFailed(f"the broker cancelled the consumer of queue {life.queue!r}"), FailureKind.TRANSIENT
        )

    def _gone(self, error: Exception, kind: FailureKind) -> None:
        self._end_life()
        self._listener.stopped(error)
        if not self.cancelled:
            self.keeper.lost(self.keeper.state.token, error, kind)

    def _abort(self) -> None:
        life = self._end_life()
        if life is not None and self._session is not None:
            close_channel(self._session, life.channel)

    def _lost(self) -> None:
        """Nothing of a lost session is kept outside its Life."""

    def _end_life(self) -> Life | None:
        life, self._life = self._life, None
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self.overlong = False
        if life is not None:
            life.alive = False
            if self._session is not None:
                self._session.detach(life.number)
            if life.publisher is not None:
                for outgoing in list(life.publisher.unconfirmed.values()):
                    outgoing.done(PublishUnknown("the connection was lost before a confirm came"))
                life.publisher.unconfirmed.clear()
        return life

    def end(self) -> None:
        """The link closes: nothing is consumed or settled any more."""
        self.cancelled = True
        self._end_life()
        self._session = None
        self.keeper.stop()
        self.keeper.closed()
        self._listener.stopped(None)

    def release(self, done: Callable[[], None]) -> None:
        """End it, once the copies of its deliveries are in their place; everything else goes back in one step."""
        self.cancelled = True

        def copied() -> None:
            self.settling.flush()
            self._abort()
            self.end()
            done()

        self.settling.when_copied(copied)

    def direct(self, outgoing: Outgoing) -> None:
        """Publish a request on the channel that gets the direct replies."""
        life = self._life
        if life is None or life.publisher is None or self.keeper.phase is not Phase.READY:
            outgoing.done(NotSent("the channel for direct replies is not open"))
        else:
            life.publisher.send(outgoing)

    def cancel(self, done: Callable[[], None]) -> None:
        """End consuming; open deliveries can still be settled."""
        self.cancelled = True
        life, session = self._life, self._session
        if life is None or session is None or self.keeper.phase is not Phase.READY:
            if self.keeper.phase is not Phase.READY:
                self.keeper.stop()
                self.keeper.closed()
            done()
            return

        def steps() -> Steps[None]:
            yield CancelConsumer(life.channel, CONSUMER_TAG)

        session.run(steps(), lambda _, error: done())

    def count(self, done: Callable[[QueueCount | Exception], None]) -> None:
        """Ask what its queue holds, on its own channel: so the broker has had the settlements when it answers."""
        life, session = self._life, self._session
        if life is None or session is None or self.keeper.phase is not Phase.READY:
            done(ConnectionFailed(f"the consumer of queue {self.spec.queue.name!r} does not run"))
            return

        def finished(found: QueueCount | None, error: Exception | None) -> None:
            done(found or error or ConnectionFailed("no answer"))

        self.settling.flush()
        session.run(count(life.channel, life.queue), finished)

    # -- deliveries -------------------------------------------------------------------------------------

    def arrived(
        self,
        life: Life,
        method: tuple[int, bool, str, str],
        properties: Properties | Recognised,
        body: bytes,
        problem: str | None,
    ) -> None:
        """A message came."""
        if life is not self._life:
            return
        tag, redelivered, exchange, topic = method
        if exchange == self._queue_exchange:
            exchange = ""
        found = arrived(exchange, topic, properties, body, redelivered, inspect=self.spec.inspect)
        if not self.spec.auto_ack and not self.spec.direct_reply:
            life.acks.delivered(tag)
        incoming = Incoming(
            message=found.message,
            consumer=self.spec.name,
            queue=life.queue or self.spec.queue.name,
            attempt=found.attempt,
            redelivered=redelivered,
            first_seen=found.first_seen,
            token=(life, tag),
            problem=problem,
        )
        if found.early:
            self.settling.hold(incoming, found.early, self._listener.delivered)
        else:
            self._listener.delivered(incoming)


def _outcome(outgoing: Outgoing, error: PublishError | None) -> None:
    outgoing.done(error)


def _nothing(code: int, text: str, method: int) -> None:
    """A close of this channel is the consumer's to handle."""
