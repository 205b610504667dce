"""Where messages go: exchanges and wait queues are made sure of before the first message of a connection.

A message whose destination is still being looked for is parked here, apart from the others.
"""

from __future__ import annotations

from collections.abc import Callable

from eventbus import EventBusError
from eventbus._topology import Exchange
from eventbus_rabbitmq._control import Control
from eventbus_rabbitmq._errors import MissingEntity
from eventbus_rabbitmq._operations import Declarer
from eventbus_rabbitmq._port import Channel, Reactor, Steps
from eventbus_rabbitmq._publisher import Outgoing

MISSING_SECONDS = 1.0
WAIT_QUEUE_SECONDS = 60.0
FOREVER = float("inf")


class Destinations:
    """What is known of them in this connection. ``found`` and ``refused`` get what was parked."""

    def __init__(
        self,
        reactor: Reactor,
        declarer: Declarer,
        found: Callable[[list[Outgoing]], None],
        refused: Callable[[Outgoing, str, EventBusError], None],
    ) -> None:
        self._reactor = reactor
        self._declarer = declarer
        self._found, self._refused = found, refused
        self._control: Control | None = None
        self._desired: dict[str, Exchange] = {}
        self._known: dict[str, float] = {}
        self._missing: dict[str, tuple[float, EventBusError]] = {}
        self._parked: dict[str, list[Outgoing]] = {}

    def connected(self, control: Control) -> None:
        """A new connection: nothing is known of its broker."""
        self._control = control
        self._known.clear()
        self._missing.clear()

    def disconnected(self) -> list[Outgoing]:
        """The connection is gone; gives what was parked."""
        self._control = None
        parked, self._parked = self._parked, {}
        return [outgoing for some in parked.values() for outgoing in some]

    def declare(self, exchange: Exchange) -> None:
        """An exchange that shall exist."""
        self._desired[exchange.name] = exchange

    def forget(self, outgoing: Outgoing) -> None:
        """Look for this message's destination again."""
        self._known.pop(outgoing.exchange if outgoing.wait is None else outgoing.wait.name, None)

    def forget_exchange(self, name: str, error: EventBusError) -> None:
        """The broker has said that this exchange does not exist."""
        self._known.pop(name, None)
        if not self._declarer.checks:
            self._missing[name] = (self._reactor.now() + MISSING_SECONDS, error)

    def ready_for(self, outgoing: Outgoing, now: float) -> bool:
        """Whether the message's destination is known to exist; else it is parked, or refused."""
        if outgoing.wait is not None:
            key = outgoing.wait.name
            known = self._known.get(key, -FOREVER) > now - WAIT_QUEUE_SECONDS
        else:
            key = outgoing.exchange
            known = not key or key in self._known
        missing = self._missing.get(key) if key else None
        if missing is not None and missing[0] > now:
            self._refused(outgoing, key, missing[1])
            return False
        if known:
            return True
        parked = self._parked.get(key)
        if parked is not None:
            parked.append(outgoing)
            return False
        self._parked[key] = [outgoing]
        assert self._control is not None
        self._control.run(self._make_sure(outgoing), lambda result, error: self._made_sure(key, error))
        return False

    def _make_sure(self, outgoing: Outgoing) -> Callable[[Channel], Steps[None]]:
        wait = outgoing.wait
        if wait is None:
            return self._exchange(outgoing.exchange)

        def steps(channel: Channel) -> Steps[None]:
            if wait.topic is None and wait.to:
                yield from self._exchange(wait.to)(channel)  # what it waits for must exist, too
            yield from self._declarer.wait(channel, wait)

        return steps

    def _exchange(self, name: str) -> Callable[[Channel], Steps[None]]:
        exchange = self._desired.get(name)
        if exchange is not None:
            return lambda channel: self._declarer.exchange(channel, exchange)
        return lambda channel: self._declarer.check_exchange(channel, name)

    def _made_sure(self, key: str, error: EventBusError | None) -> None:
        parked = self._parked.pop(key, [])
        if error is None:
            self._known[key] = self._reactor.now()
            self._missing.pop(key, None)
            self._found(parked)
            return
        if not isinstance(error, MissingEntity) or self._declarer.checks:
            self._missing[key] = (self._reactor.now() + MISSING_SECONDS, error)
        for outgoing in parked:
            self._refused(outgoing, key, error)
        self._found([])

    def count(self) -> int:
        """Messages parked."""
        return sum(map(len, self._parked.values()))

    def late(self, now: float) -> list[Outgoing]:
        """Take out what is past its deadline."""
        late: list[Outgoing] = []
        for key, parked in self._parked.items():
            if any(outgoing.deadline <= now for outgoing in parked):
                late += [outgoing for outgoing in parked if outgoing.deadline <= now]
                self._parked[key] = [outgoing for outgoing in parked if outgoing.deadline > now]
        return late
