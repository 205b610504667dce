"""The publish side of the engine: every message from the call to its one outcome, across channels and connections."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from eventbus import (
    BusClosed,
    EventBusError,
    ExchangeMissing,
    NotSent,
    PublishError,
    PublishUnknown,
    Rejected,
    Unroutable,
)
from eventbus_rabbitmq._control import Control
from eventbus_rabbitmq._destinations import FOREVER, Destinations
from eventbus_rabbitmq._errors import MissingEntity
from eventbus_rabbitmq._operations import Declarer, close_channel
from eventbus_rabbitmq._port import Channel, ConfirmSelect, OpenChannel, Reactor, Session, Steps, Timer
from eventbus_rabbitmq._publisher import Outgoing, Publisher
from eventbus_rabbitmq._refusals import missing, refusal, too_large
from eventbus_rabbitmq._wire.frames import OVERHEAD

__all__ = ["FOREVER", "Publishing"]

log = logging.getLogger("eventbus.rabbitmq")

# Bytes given to the client library and not yet to the socket, above which messages wait here (and are "not sent").
BUFFER_LIMIT = 1 << 20
BUFFER_SECONDS = 0.001
SWEEP_SECONDS = 0.05
REOPEN_SECONDS = 0.2
RENEW_SECONDS = 1.0


class Publishing:
    """Messages waiting for a channel, and the channel that carries them."""

    def __init__(
        self, reactor: Reactor, declarer: Declarer, why_not: Callable[[], str], *, resend: bool = True
    ) -> None:
        self._reactor = reactor
        self._why_not = why_not
        self._resend = resend
        self.destinations = Destinations(reactor, declarer, self._found, self._refuse)
        self.blocked: str | None = None
        self._waiting: deque[Outgoing] = deque()
        self._session: Session | None = None
        self._publisher: Publisher | None = None
        self._opening = False
        self._out: list[bytes] = []
        self._out_size = 0
        self._pumping = False
        self._sweeper: Timer | None = None
        self._room: Timer | None = None
        self._careful = 0
        self._channel: Channel | None = None
        self._doubted = False
        self._renewed = -FOREVER
        self._elsewhere: list[Outgoing] = []
        self._closed = False

    # -- what the engine tells --------------------------------------------------------------------------

    def connected(self, session: Session, control: Control) -> None:
        """A connection is there."""
        self._session = session
        self.destinations.connected(control)
        self.blocked = None
        self._open_channel()

    def disconnected(self) -> None:
        """The connection is gone: what was not confirmed goes first on the next one, or ends here."""
        self._session = None
        self._opening = False
        self.blocked = None
        self._careful = 0
        self._doubted = False
        self._waiting.extendleft(reversed(self.destinations.disconnected()))
        self._take_back()
        if not self._resend:
            self._end_all("the connection was lost")

    def set_blocked(self, reason: str | None) -> None:
        """The broker takes no publishes (None: it does again)."""
        self.blocked = reason
        if reason is None:
            self._pump_soon()

    # -- publishing -------------------------------------------------------------------------------------

    def publish(self, outgoing: Outgoing) -> None:
        """Take a message; its ``done`` is called at the outcome."""
        if self._closed:
            outgoing.done(BusClosed("the link is closed, so nothing was sent"))
            return
        self._waiting.append(outgoing)
        publisher = self._publisher
        if publisher is not None and not publisher.unconfirmed and not self._pumping:
            self._pump()  # nothing is on its way, so there is nothing to send it with: at once
        else:
            self._pump_soon()
        if self._sweeper is None:
            self._sweeper = self._reactor.call_later(SWEEP_SECONDS, self._sweep)

    def pending(self) -> int:
        """Messages without an outcome."""
        written = len(self._publisher.unconfirmed) if self._publisher is not None else 0
        return len(self._waiting) + written + self.destinations.count() + len(self._elsewhere)

    def _pump_soon(self) -> None:
        """Send what waits, at the end of this turn: in one write."""
        if not self._pumping:
            self._pumping = True
            self._reactor.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        publisher, session, waiting = self._publisher, self._session, self._waiting
        if not waiting or publisher is None or session is None or self.blocked is not None:
            return
        now = self._reactor.now()
        if self._doubted and self._renewal(publisher, session, now):
            return
        room = BUFFER_LIMIT - session.buffered()
        longest = session.frame_max - OVERHEAD
        ready_for = self.destinations.ready_for
        while waiting:
            if room <= self._out_size:
                if self._room is None:
                    self._room = self._reactor.call_later(BUFFER_SECONDS, self._again)
                break
            if self._careful and publisher.unconfirmed:
                break  # goes on at its outcome
            outgoing = waiting.popleft()
            if outgoing.alive is not None and not outgoing.alive():
                outgoing.done(NotSent("the original's channel is gone, so the broker hands it out again"))
            elif len(outgoing.header) > longest:
                outgoing.done(too_large(len(outgoing.header), longest))
            elif ready_for(outgoing, now):
                if outgoing.by is None:
                    publisher.send(outgoing)
                else:
                    outgoing.by(outgoing)
                    self._elsewhere.append(outgoing)
        out, self._out, self._out_size = self._out, [], 0
        if out and self._session is session:
            session.write(out[0] if len(out) == 1 else b"".join(out))

    def _again(self) -> None:
        self._room = None
        self._pump_soon()

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)

    def _found(self, parked: list[Outgoing]) -> None:
        self._waiting.extendleft(reversed(parked))
        self._pump_soon()

    def _refuse(self, outgoing: Outgoing, destination: str, error: EventBusError) -> None:
        outcome: PublishError
        if isinstance(error, (MissingEntity, ExchangeMissing)):
            outcome = missing(outgoing, set(), destination)
        elif outgoing.sends:
            outcome = PublishUnknown(f"sent before, and now refused: {error}")
        else:
            outcome = NotSent(str(error))
        outcome.__cause__ = error
        outgoing.done(outcome)

    # -- the channel ------------------------------------------------------------------------------------

    def _open_channel(self) -> None:
        session = self._session
        if session is None or self._opening or self._publisher is not None:
            return
        self._opening = True

        def steps() -> Steps[tuple[Channel, int]]:
            channel, number = yield OpenChannel()
            yield ConfirmSelect(channel)
            return channel, number

        def opened(result: tuple[Channel, int] | None, error: Exception | None) -> None:
            if session is not self._session:
                return
            self._opening = False
            if result is None:
                log.warning("the publish channel could not be opened, trying again: %s", error)
                self._reactor.call_later(1.0, self._open_channel)
                return
            self._channel, number = result
            self._publisher = Publisher(number, session.frame_max, self._write, self._outcome, self._channel_closed)
            session.attach(number, self._publisher)
            self._pump_soon()

        session.run(steps(), opened)

    def _renewal(self, publisher: Publisher, session: Session, now: float) -> bool:
        """Whether to wait: a channel that has nacked is replaced, once what it carries has its outcome.

        A channel of RabbitMQ 3 that met a quorum queue without leader goes on to nack what is for that queue after a
        new leader is there; another channel does not.
        """
        if now < self._renewed + RENEW_SECONDS:
            return False
        if not publisher.unconfirmed:
            self._renewed, self._doubted = now, False
            session.detach(publisher.number)
            close_channel(session, self._channel)
            self._publisher = self._channel = None
            self._open_channel()
        return True

    def _outcome(self, outgoing: Outgoing, error: PublishError | None) -> None:
        self._doubted = self._doubted or isinstance(error, Rejected)
        if error is None:
            outgoing.done(None)
        elif isinstance(error, Unroutable) and outgoing.wait is not None and outgoing.sends == 1:
            self.destinations.forget(outgoing)  # the wait queue has gone: it is declared anew
            self._waiting.appendleft(outgoing)
        else:
            if outgoing.sends > 1 and outgoing.wait is None:
                cause, error = error, PublishUnknown(f"sent twice; the second time: {error}")
                error.__cause__ = cause
            outgoing.done(error)
        if self._careful:
            self._careful -= 1
            self._pump_soon()
        elif self._doubted:
            self._pump_soon()

    def _channel_closed(self, code: int, text: str, method: int) -> None:
        """The broker closed the publish channel: what it carried goes to a new one, apart from what it refused."""
        publisher = self._publisher
        if publisher is None:
            return
        if self._session is not None:
            self._session.detach(publisher.number)
        log.warning("the broker closed the publish channel: %s (%d)", " ".join(text.split()), code)
        found = refusal(publisher.unconfirmed, publisher.proven, code, text, method)
        ended = [(publisher.unconfirmed.pop(tag), error) for tag, error in found.ended]
        if found.forget is not None:
            self.destinations.forget_exchange(found.forget, ExchangeMissing(" ".join(text.split())))
        proven = bool(publisher.proven)
        in_flight = len(publisher.unconfirmed)
        self._take_back()
        if not self._resend:
            self._end_all("the broker closed the channel")
        self._careful = in_flight if found.careful else max(0, self._careful - len(ended))
        for outgoing, error in ended:
            outgoing.done(error)
        if proven or ended:
            self._open_channel()
        else:  # nothing got through: no haste
            self._reactor.call_later(REOPEN_SECONDS, self._open_channel)

    def _take_back(self) -> None:
        """Unconfirmed messages, in order, before all that wait."""
        publisher, self._publisher = self._publisher, None
        self._out, self._out_size = [], 0
        if publisher is not None:
            self._waiting.extendleft(reversed(publisher.unconfirmed.values()))
            publisher.unconfirmed.clear()

    # -- deadlines --------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._reactor.now()
        late = self.destinations.late(now)
        if any(outgoing.deadline <= now for outgoing in self._waiting):
            late += [outgoing for outgoing in self._waiting if outgoing.deadline <= now]
            self._waiting = deque(outgoing for outgoing in self._waiting if outgoing.deadline > now)
        if self._publisher is not None:
            unconfirmed = self._publisher.unconfirmed
            late += [unconfirmed.pop(tag) for tag in [t for t, o in unconfirmed.items() if o.deadline <= now]]
        self._elsewhere = [outgoing for outgoing in self._elsewhere if outgoing.finish_with is not None]
        late += [outgoing for outgoing in self._elsewhere if outgoing.deadline <= now]
        self._expire(late)
        self._pump_soon()
        if self.pending() and not self._closed:
            self._sweeper = self._reactor.call_later(SWEEP_SECONDS, self._sweep)

    def _expire(self, late: list[Outgoing]) -> None:
        why = f"the broker blocks publishing: {self.blocked}" if self.blocked else self._why_not()
        for outgoing in late:
            if outgoing.sends:
                outgoing.done(PublishUnknown(f"no confirm came by the deadline ({why or 'connected'})"))
            else:
                slow = "earlier messages, or the look for its exchange, were still on their way"
                outgoing.done(NotSent(f"not sent by the deadline: {why or slow}"))

    def close(self) -> None:
        """End every message that has no outcome."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._waiting.extendleft(reversed(self.destinations.disconnected()))
        self._take_back()
        self._end_all("the bus was closed", BusClosed)

    def _end_all(self, why: str, not_sent: type[NotSent] = NotSent) -> None:
        waiting, self._waiting = [*self._waiting, *self._elsewhere], deque()
        self._elsewhere = []
        for outgoing in waiting:
            if outgoing.sends:
                outgoing.done(PublishUnknown(f"{why} before a confirm came"))
            else:
                outgoing.done(not_sent(f"{why} before it could be sent"))
