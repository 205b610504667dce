"""Carrying out what the spool's decisions ask for, at the main link and at the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from eventbus._errors import ConfigurationError, PublishError
from eventbus._ids import uuid7
from eventbus._message import Message
from eventbus._settlement import DeadLetter
from eventbus._spool._actions import Action, Entry, Forward, Item, Keep, Mark, Notify, Send, Settle, Tell
from eventbus._spool._copies import Kept, Marker, marker_message, notice_message, pack
from eventbus._spool._drain import Drain
from eventbus._spool._line import Line, Mode
from eventbus._spool._store import Store
from eventbus._spool._turns import Turns
from eventbus._topology import Exchange, Topology
from eventbus.transport import AsyncLink, SyncLink

log = logging.getLogger("eventbus.spool")

L = TypeVar("L", SyncLink, AsyncLink)

STORE_SECONDS = 5.0


class Carrying(Generic[L]):
    """The decisions of one bus's spool, and the two links that they are about."""

    main: L
    _store: Store

    def __init__(self, max_age: float, unheard: Callable[[Message], None]) -> None:
        self._bus = uuid7()
        self._unheard = unheard
        self._turns = Turns(self._carry_out)
        self._line = Line(self._turns.out)
        self._drain = Drain(self._turns.out, self._line, self._bus, max_age)
        self._exchanges: dict[str, Exchange] = {}
        self._unmarked = False
        self._counts = dict.fromkeys(("marker", "sent", "unheard", "expired", "buried", "kept"), 0)

    def declare(self, topology: Topology) -> None:
        """Add exchanges and bindings that publishing needs."""
        self._exchanges.update((exchange.name, exchange) for exchange in topology.exchanges)
        self.main.declare(topology)

    def _step(self, decide: Callable[..., None], *arguments: object) -> None:
        """Decide, and carry out what comes of it."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """After a decision: send what can be sent from the spool, and have the next tick in time."""
        raise NotImplementedError

    def _tried(self, item: Item, error: PublishError | None) -> None:
        turns, line = self._turns, self._line
        with turns.lock:
            usual = line.mode is Mode.DIRECT
            line.tried(item, error, time.monotonic())
            if not usual or line.mode is not Mode.DIRECT:
                self._go_on()
        turns.work()

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Send):
            item = action.item
            self.main.publish(item.message, deadline=action.deadline, done=partial(self._tried, item))
        elif isinstance(action, Tell):
            action.item.done(action.error)
        elif isinstance(action, Keep):
            self._keep(action.item)
        elif isinstance(action, Forward):
            self._forward(action)
        elif isinstance(action, Settle):
            self._settle(action)
        elif isinstance(action, Mark):
            self._mark(action.number)
        elif isinstance(action, Notify):
            self._notify(action.entry, action.marker)
        else:
            action.call()

    def _keep(self, item: Item) -> None:
        message = item.message
        kept = Kept(
            bus=self._bus,
            number=item.number,
            at=item.at,
            exchange=self._exchanges.get(message.exchange, message.exchange),
            topic=message.topic,
            ttl=message.ttl,
            priority=message.priority,
            deliver_at=message.deliver_at,
            user_id=message.user_id,
            persistent=message.persistent,
            mandatory=item.mandatory,
        )
        deadline = max(item.deadline, time.monotonic() + 1.0)
        self._store.keep(pack(message, kept, self._store.queue), deadline, partial(self._kept, item))

    def _kept(self, item: Item, error: PublishError | None) -> None:
        self._counts["kept"] += error is None
        self._step(self._line.kept, item, error)

    def _mark(self, number: int) -> None:
        marker = Marker(bus=self._bus, marker=number, address=self._store.address)

        def done(error: PublishError | None) -> None:
            if error is not None:
                self._unmarked = True  # the next tick tries again

        deadline = time.monotonic() + STORE_SECONDS
        self._store.put(marker_message(marker, self._store.queue), deadline, done)

    def _forward(self, action: Forward) -> None:
        record = action.entry.record
        assert isinstance(record, Kept)
        exchange = record.exchange
        if isinstance(exchange, Exchange) and exchange.name not in self._exchanges:
            try:
                self.declare(Topology(exchanges=(exchange,)))
            except ConfigurationError as error:
                log.warning("exchange %r cannot be declared as it was: %s", exchange.name, error)
        self.main.publish(action.message, deadline=action.deadline, done=partial(self._forwarded, action.entry))

    def _forwarded(self, entry: Entry, error: PublishError | None) -> None:
        self._step(self._drain.forwarded, entry, error, time.monotonic())

    def _notify(self, entry: Entry, marker: Marker) -> None:
        def done(error: PublishError | None) -> None:
            self._step(self._drain.notified, entry)

        self._store.put(notice_message(marker), time.monotonic() + STORE_SECONDS, done)

    def _settle(self, action: Settle) -> None:
        self._counts[action.how] += 1
        self._store.link.settle(action.incoming, action.settlement)
        if action.how == "marker":
            return
        self._store.taken()
        if action.how == "unheard" and action.message is not None:
            self._unheard(action.message)
        elif action.how == "expired":
            log.warning("an event in the spool was too old, and was dropped: %s", action.incoming.message.id)
        elif isinstance(action.settlement, DeadLetter):
            log.error(
                "an event in the spool goes to its dead letters: %s: %s: %s %s",
                action.incoming.message.id,
                action.settlement.reason,
                action.settlement.error_type,
                action.settlement.error,
            )
