"""The link of a bus with a spool, apart from what waits: the main link, the store, and what goes which way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from eventbus._errors import ConfigurationError, PublishError
from eventbus._ids import uuid7
from eventbus._message import Incoming, Message
from eventbus._settlement import DeadLetter, Settlement
from eventbus._spool._actions import Action, Entry, Forward, Item, Keep, Mark, Notify, Run, Send, Settle, Tell
from eventbus._spool._copies import Kept, Marker, marker_message, notice_message, pack
from eventbus._spool._drain import Drain
from eventbus._spool._line import Line, Mode
from eventbus._spool._outcomes import is_event, reach
from eventbus._spool._store import Store
from eventbus._spool._turns import Turns
from eventbus._spool._values import SpoolHealth, SpoolSettings
from eventbus._topology import Exchange, Topology
from eventbus.transport import AsyncLink, ConsumerListener, ConsumerSpec, LinkStatus, StatusListener, SyncLink

if TYPE_CHECKING:
    from eventbus._bus._sending import Sending

log = logging.getLogger("eventbus.spool")

L = TypeVar("L", SyncLink, AsyncLink)

STORE_SECONDS = 5.0
SOON = 0.1
BUSY_SECONDS = 0.5
IDLE_SECONDS = 10.0
YIELD_SECONDS = 5.0
"""A broker that has been away for so long is perhaps there for another bus of the same spool."""


class SpoolCore(Generic[L]):
    """Between a bus and its link: everything goes on to the ``main`` link, but events while the broker is away."""

    main: L

    def __init__(
        self,
        spool: SpoolSettings,
        on_status: StatusListener,
        on_spool: Callable[[SpoolHealth], None],
        unheard: Callable[[Message], None],
    ) -> None:
        self._bus = uuid7()
        self._on_status = on_status
        self._on_spool = on_spool
        self._unheard = unheard
        self._turns = Turns(self._carry_out)
        self._line = Line(self._turns.out)
        self._drain = Drain(self._turns.out, self._line, self._bus, spool.max_age)
        self._store = Store(spool, self)
        self._exchanges: dict[str, Exchange] = {}
        self._numbers = 0
        self._ticks = 0
        self._due = float("inf")
        self._away_since: float | None = None
        self._unmarked = False
        self._told_mode = Mode.DIRECT
        self._counts = dict.fromkeys(("marker", "sent", "unheard", "expired", "buried", "kept"), 0)

    # -- the contract -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect, to the broker and to the store."""
        self.main.open()
        self._store.open()

    def declare(self, topology: Topology) -> None:
        """Add exchanges and bindings that publishing needs."""
        self._exchanges.update((exchange.name, exchange) for exchange in topology.exchanges)
        self.main.declare(topology)

    def publish(
        self,
        message: Message,
        *,
        deadline: float,
        done: Callable[[PublishError | None], None],
        mandatory: bool = False,
    ) -> None:
        """Send one message, or keep it. ``mandatory`` says that its caller wants to hear of Unroutable."""
        if not is_event(message):
            self.main.publish(message, deadline=deadline, done=done)
            return
        turns = self._turns
        with turns.lock:
            self._numbers += 1
            item = Item(self._numbers, message, deadline, done, mandatory=mandatory, at=time.time())
            self._line.publish(item, time.monotonic())
            if self._line.mode is not Mode.DIRECT:
                self._plan()
        turns.work()

    def send(self, sending: Sending) -> None:
        """Send what the bus publishes or asks, or keep it."""
        self.publish(sending.message, deadline=sending.deadline, done=sending.outcome, mandatory=sending.must_route)

    def consume(self, spec: ConsumerSpec, listener: ConsumerListener) -> None:
        """Keep this consumer running from now on."""
        self.main.consume(spec, listener)

    def settle(self, incoming: Incoming, settlement: Settlement) -> None:
        """Tell the broker what became of a delivery."""
        self.main.settle(incoming, settlement)

    def release(self, name: str) -> None:
        """End one consumer."""
        self.main.release(name)

    def count_consumers(self, queue: str, done: Callable[[int | None], None]) -> None:
        """Ask the broker how many consumers a queue has."""
        self.main.count_consumers(queue, done)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call after so many seconds of the broker's time."""
        self.main.later(seconds, function)

    def status(self) -> LinkStatus:
        """A snapshot of the main link."""
        return self.main.status()

    def health(self) -> SpoolHealth:
        """State of the spool."""
        with self._turns.lock:
            direct, up = self._line.mode is Mode.DIRECT, self._line.up
            waiting, oldest = self._drain.events(), self._drain.oldest()
        error = self._store.error
        return SpoolHealth(
            state="idle" if direct and not waiting else "draining" if up else "keeping",
            messages=self._store.depth,
            oldest=None if oldest is None else max(0.0, time.time() - oldest),
            kept=self._counts["kept"],
            sent=self._counts["sent"] + self._counts["unheard"],
            expired=self._counts["expired"],
            dead_lettered=self._counts["buried"],
            error=None if error is None else " ".join(str(error).split()),
        )

    def _halt(self) -> None:
        self._drain.halted = True

    def _landed(self) -> bool:
        """Whether nothing from the spool is on its way; to a broker that is away it stays so until the link ends."""
        return not (self._line.up and self._drain.open())

    def _end(self) -> None:
        self._drain.halted = True
        self._line.close()

    def _all_kept(self) -> bool:
        return not self._store.storing

    # -- what the main link tells -----------------------------------------------------------------------

    def _main_changed(self, status: LinkStatus) -> None:
        self._step(self._reached, reach(status))
        self._on_status(status)

    def _reached(self, up: bool | None) -> None:
        now = time.monotonic()
        if up and not self._line.up:
            self._away_since = None
            self._drain.reconnected()
            self._line.came(now)
        elif not up and (self._line.up or up is False):
            if self._away_since is None:
                self._away_since = now
            self._line.went()

    def _tried(self, item: Item, error: PublishError | None) -> None:
        self._step(self._line.tried, item, error, time.monotonic())

    # -- what the store tells ---------------------------------------------------------------------------

    def delivered(self, incoming: Incoming, /) -> None:
        """A message from the spool."""
        self._step(self._drain.delivered, incoming, time.time())

    def gone(self, released: bool, /) -> None:
        """The deliveries so far have gone back."""
        self._step(self._drain.gone, released)

    def store_ready(self, again: bool, /) -> None:
        """Copies can be put into the spool."""
        self._step(self._ready, again)

    def _ready(self, again: bool) -> None:
        self._turns.out.append(Run(self._store.unpark))
        self._turns.out.append(Run(self._count))
        if again:
            self._line.mark_again()
        else:
            self._line.begin()

    def marker_out(self, bus: str, marker: int, /) -> None:
        """A notice about a marker has come."""
        if bus == self._bus:
            self._step(self._line.marker_out, marker, time.monotonic())

    def _store_changed(self, status: LinkStatus) -> None:
        self._step(self._turns.out.append, Run(partial(self._store.changed, status)))

    # -- time -------------------------------------------------------------------------------------------

    def _step(self, decide: Callable[..., None], *arguments: object) -> None:
        self._turns.step(self._decide, decide, arguments)

    def _decide(self, decide: Callable[..., None], arguments: tuple[object, ...]) -> None:
        decide(*arguments)
        self._drain.go(time.monotonic(), time.time)
        self._plan()

    def _plan(self) -> None:
        """Have the next tick in time, and say it when events go another way."""
        now, mode = time.monotonic(), self._line.mode
        if mode is not self._told_mode and mode is not Mode.HOLDING and not self._drain.halted:
            self._told_mode = mode
            self._turns.out.append(Run(partial(_tell_mode, mode)))
            self._turns.out.append(Run(self._count))
            self._turns.out.append(Run(self._tell_health))
        if mode is Mode.DIRECT and not self._drain.busy():
            due = now + IDLE_SECONDS
        else:
            due = min(now + BUSY_SECONDS, self._line.hold_until or float("inf"))
            if self._drain.paused_until > now:
                due = min(due, self._drain.paused_until)
        if due < self._due - SOON / 2:
            self._due = due
            self._ticks += 1
            tick = partial(self._tick, self._ticks)
            self._turns.out.append(Run(partial(self.main.later, max(0.0, due - now), tick)))

    def _tick(self, number: int) -> None:
        if number == self._ticks:  # one that is due earlier takes the place of those before
            self._step(self._ticked)

    def _ticked(self) -> None:
        now = time.monotonic()
        self._due = float("inf")
        self._line.tick(now)
        self._drain.tick(time.time())
        if self._unmarked:
            self._unmarked = False
            self._line.mark_again()
        self._turns.out.append(Run(partial(self._store.refuse_late, now)))
        self._turns.out.append(Run(self._count))
        self._turns.out.append(Run(self._tell_health))
        if self._away_since is not None and now > self._away_since + YIELD_SECONDS:
            self._away_since = now
            self._turns.out.append(Run(partial(self._store.look_for_others, self._others_wait)))

    def _others_wait(self) -> None:
        self._step(self._yield_turn)

    def _yield_turn(self) -> None:
        # What is on its way stays: another bus would send it a second time.
        if self._away_since is not None and not self._drain.open() and not self._drain.leaving:
            self._drain.leaving = True
            self._turns.out.append(Run(self._store.yield_turn))

    def _tell_health(self) -> None:
        self._on_spool(self.health())

    def _count(self) -> None:
        self._store.count(self._counted)

    def _counted(self, waiting: int, puts: int) -> None:
        with self._turns.lock:
            marker = self._line.marker_out_there()
            own = marker is not None and not self._drain.holds(marker)
            self._store.counted(max(0, waiting - own) + self._drain.events(), puts)

    # -- carrying out -----------------------------------------------------------------------------------

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


def _tell_mode(mode: Mode) -> None:
    if mode is Mode.KEEPING:
        log.warning("the broker is away, or the spool is not empty yet: events go into the spool")
    else:
        log.info("the spool is empty: events go to the broker")
