"""The publish side of the engine: every message from the call to its one outcome, across channels and connections."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from eventbus import (
    AccessRefused,
    EventBusError,
    ExchangeMissing,
    NotSent,
    PublishError,
    PublishUnknown,
    Rejected,
)
from eventbus._topology import Exchange
from eventbus_rabbitmq._control import Control
from eventbus_rabbitmq._errors import ACCESS_REFUSED, NOT_FOUND, MissingEntity
from eventbus_rabbitmq._operations import Declarer, wait_queue_name
from eventbus_rabbitmq._port import Channel, ConfirmSelect, OpenChannel, Reactor, Session, Steps, Timer
from eventbus_rabbitmq._publisher import Outgoing, Publisher

log = logging.getLogger("eventbus.rabbitmq")

BUFFER_LIMIT = 1 << 20
SWEEP_SECONDS = 0.05
MISSING_SECONDS = 1.0
WAIT_QUEUE_SECONDS = 60.0
FOREVER = float("inf")


class Publishing:
    """Messages waiting for a channel, the channel that carries them, and what is known of their exchanges."""

    def __init__(self, reactor: Reactor, declarer: Declarer, why_not: Callable[[], str]) -> None:
        self._reactor = reactor
        self._declarer = declarer
        self._why_not = why_not
        self.blocked: str | None = None
        self._waiting: deque[Outgoing] = deque()
        self._parked: dict[str, list[Outgoing]] = {}
        self._session: Session | None = None
        self._control: Control | None = None
        self._publisher: Publisher | None = None
        self._opening = False
        self._out: list[bytes] = []
        self._timer: Timer | None = None
        self._flushing = False
        self.desired: dict[str, Exchange] = {}
        self._known: dict[str, float] = {}
        self._missing: dict[str, tuple[float, EventBusError]] = {}
        self._wait_type: dict[str, tuple[str, float, str]] = {}

    # -- what the engine tells --------------------------------------------------------------------------

    def connected(self, session: Session, control: Control) -> None:
        """A connection is there."""
        self._session, self._control = session, control
        self._known.clear()
        self._missing.clear()
        self.blocked = None
        self._open_channel()

    def disconnected(self) -> None:
        """The connection is gone: what was not confirmed goes first on the next one."""
        self._session = self._control = None
        self._opening = False
        self.blocked = None
        self._take_back()
        self._parked_back()

    def set_blocked(self, reason: str | None) -> None:
        """The broker takes no publishes (None: it does again)."""
        self.blocked = reason
        if reason is None:
            self._pump()

    def declare(self, exchange: Exchange) -> None:
        """An exchange that shall exist."""
        self.desired[exchange.name] = exchange

    # -- publishing -------------------------------------------------------------------------------------

    def publish(self, outgoing: Outgoing) -> None:
        """Take a message; its ``done`` is called at the outcome."""
        self._waiting.append(outgoing)
        self._pump()
        if self._timer is None:
            self._timer = self._reactor.call_later(SWEEP_SECONDS, self._sweep)

    def pending(self) -> int:
        """Messages without an outcome."""
        written = len(self._publisher.unconfirmed) if self._publisher is not None else 0
        return len(self._waiting) + written + sum(map(len, self._parked.values()))

    def _pump(self) -> None:
        publisher, session, waiting = self._publisher, self._session, self._waiting
        if publisher is None or session is None or self.blocked is not None:
            return
        now = self._reactor.now()
        while waiting:
            if session.buffered() > BUFFER_LIMIT or len(self._out) > 2000:
                self._flush_soon()  # goes on after the flush, or at the next sweep
                return
            outgoing = waiting.popleft()
            if outgoing.alive is not None and not outgoing.alive():
                outgoing.done(NotSent("the original's channel is gone, so the broker hands it out again"))
            elif self._ready_for(outgoing, now):
                (outgoing.by or publisher.send)(outgoing)

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._reactor.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._out and self._session is not None:
            out, self._out = self._out, []
            self._session.write(out[0] if len(out) == 1 else b"".join(out))
        if self._waiting:
            self._pump()

    # -- destinations -----------------------------------------------------------------------------------

    def _ready_for(self, outgoing: Outgoing, now: float) -> bool:
        """Whether the message's destination is known to exist; else it waits for that, apart from the others."""
        if outgoing.wait is not None:
            key = outgoing.topic
            known = self._known.get(key, -FOREVER) > now - WAIT_QUEUE_SECONDS
        else:
            key = outgoing.exchange
            known = not key or key in self._known
        if known:
            return True
        missing = self._missing.get(key)
        if missing is not None and missing[0] > now:
            self._refuse(outgoing, missing[1])
            return False
        parked = self._parked.get(key)
        if parked is not None:
            parked.append(outgoing)
            return False
        self._parked[key] = [outgoing]
        assert self._control is not None
        steps = self._make_sure(outgoing)
        self._control.run(steps, lambda result, error: self._made_sure(key, error), what=f"exchange {key!r}")
        return False

    def _make_sure(self, outgoing: Outgoing) -> Callable[[Channel], Steps[None]]:
        if outgoing.wait is not None:
            queue, seconds, like = self._wait_type[outgoing.topic]
            return lambda channel: self._declarer.wait_queue(channel, queue, seconds, like)  # type: ignore[arg-type]
        exchange = self.desired.get(outgoing.exchange)
        if exchange is not None:
            return lambda channel: self._declarer.exchange(channel, exchange)
        name = outgoing.exchange
        return lambda channel: self._declarer.check_exchange(channel, name)

    def wait_queue(self, queue: str, seconds: float, like: str) -> str:
        """Name of the queue where copies for ``queue`` wait; noted, so that it can be declared."""
        name = wait_queue_name(queue, seconds)
        self._wait_type[name] = (queue, seconds, like)
        return name

    def _made_sure(self, key: str, error: EventBusError | None) -> None:
        parked = self._parked.pop(key, [])
        if error is None:
            self._known[key] = self._reactor.now()
            self._waiting.extendleft(reversed(parked))
        else:
            if isinstance(error, MissingEntity):
                error = ExchangeMissing(f"exchange {key!r} does not exist: check its name, or declare it")
            self._missing[key] = (self._reactor.now() + MISSING_SECONDS, error)
            for outgoing in parked:
                self._refuse(outgoing, error)
        self._pump()

    def _refuse(self, outgoing: Outgoing, error: EventBusError) -> None:
        if outgoing.written:
            outcome: PublishError = PublishUnknown(f"sent before, and now refused: {error}")
        elif isinstance(error, PublishError):
            outcome = type(error)(str(error))
        else:
            outcome = NotSent(str(error))
        outcome.__cause__ = error
        outgoing.done(outcome)

    # -- the channel ------------------------------------------------------------------------------------

    def _open_channel(self) -> None:
        session = self._session
        if session is None or self._opening:
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
            number = result[1]
            self._publisher = Publisher(number, session.frame_max, self._write, self._outcome, self._channel_closed)
            session.attach(number, self._publisher)
            self._pump()

        session.run(steps(), opened)

    def _outcome(self, outgoing: Outgoing, error: PublishError | None) -> None:
        outgoing.done(error)

    def _channel_closed(self, code: int, text: str, method: int) -> None:
        """The broker closed the publish channel: what it carried goes to a new one, apart from what it refused."""
        publisher = self._publisher
        if publisher is None:
            return
        if self._session is not None:
            self._session.detach(publisher.number)
        named = self._named_exchange(text)
        log.warning("the broker closed the publish channel: %s (%d)", " ".join(text.split()), code)
        if code == NOT_FOUND and named is not None:
            self._known.pop(named, None)  # looked for again; its messages wait for that, the others go on
        if code == ACCESS_REFUSED and named is not None:
            self._deny(publisher, named, text)
        self._take_back()
        self._open_channel()

    @staticmethod
    def _named_exchange(text: str) -> str | None:
        """The exchange that a broker's error names: ``... exchange 'a.b' in vhost ...``."""
        _, found, rest = text.partition("exchange '")
        return rest.partition("'")[0] if found else None

    def _deny(self, publisher: Publisher, exchange: str, text: str) -> None:
        cause = AccessRefused(" ".join(text.split()))
        for tag, outgoing in list(publisher.unconfirmed.items()):
            if outgoing.exchange != exchange:
                continue
            del publisher.unconfirmed[tag]
            why = f"the user lacks the permission to write to exchange {exchange!r}; see rabbitmqctl set_permissions"
            outcome: PublishError
            if exchange in publisher.proven:
                outcome = PublishUnknown(f"{why}; earlier messages were taken, so this one may have been too")
            else:
                outcome = Rejected(why)
            outcome.__cause__ = cause
            outgoing.done(outcome)

    def _take_back(self) -> None:
        """Unconfirmed messages, in order, before all that wait."""
        publisher, self._publisher = self._publisher, None
        self._out.clear()
        if publisher is not None:
            self._waiting.extendleft(reversed(list(publisher.unconfirmed.values())))
            publisher.unconfirmed.clear()

    def _parked_back(self) -> None:
        for parked in self._parked.values():
            self._waiting.extendleft(reversed(parked))
        self._parked.clear()

    # -- deadlines --------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        self._timer = None
        now = self._reactor.now()
        if (self._waiting and self._waiting[0].deadline <= now) or any(o.deadline <= now for o in self._waiting):
            late = [o for o in self._waiting if o.deadline <= now]
            self._waiting = deque(o for o in self._waiting if o.deadline > now)
            self._expire(late)
        for key, parked in list(self._parked.items()):
            late = [o for o in parked if o.deadline <= now]
            if late:
                self._parked[key] = [o for o in parked if o.deadline > now]
                self._expire(late, f"the broker has not answered yet whether {key!r} exists")
        if self._publisher is not None:
            unconfirmed = self._publisher.unconfirmed
            for tag in [t for t, o in unconfirmed.items() if o.deadline <= now]:
                self._expire([unconfirmed.pop(tag)])
        self._pump()
        if self.pending():
            self._timer = self._reactor.call_later(SWEEP_SECONDS, self._sweep)

    def _expire(self, late: list[Outgoing], otherwise: str = "") -> None:
        why = f"the broker blocks publishing: {self.blocked}" if self.blocked else self._why_not() or otherwise
        for outgoing in late:
            if outgoing.written:
                outgoing.done(PublishUnknown(f"no confirm came by the deadline ({why or 'connected'})"))
            else:
                outgoing.done(NotSent(f"not sent by the deadline: {why or 'earlier messages were still on their way'}"))

    def close(self) -> None:
        """End every message that has no outcome."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._take_back()
        self._parked_back()
        waiting, self._waiting = self._waiting, deque()
        for outgoing in waiting:
            if outgoing.written:
                outgoing.done(PublishUnknown("the bus was closed before a confirm came"))
            else:
                outgoing.done(NotSent("the bus was closed before it could be sent"))
