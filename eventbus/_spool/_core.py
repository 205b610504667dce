"""The link of a bus with a spool, apart from what waits: the main link, the store, and what goes which way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from eventbus._errors import PublishError
from eventbus._message import Incoming, Message
from eventbus._settlement import Settlement
from eventbus._spool._actions import Item, Run
from eventbus._spool._carrying import Carrying, L
from eventbus._spool._line import Mode
from eventbus._spool._outcomes import is_event, reach
from eventbus._spool._store import Store
from eventbus._spool._values import SpoolHealth, SpoolSettings
from eventbus.transport import ConsumerListener, ConsumerSpec, LinkStatus, StatusListener

if TYPE_CHECKING:
    from eventbus._bus._sending import Sending

log = logging.getLogger("eventbus.spool")

SOON = 0.1
BUSY_SECONDS = 0.5
IDLE_SECONDS = 10.0
YIELD_SECONDS = 5.0
"""A broker that has been away for so long is perhaps there for another bus of the same spool."""


class SpoolCore(Carrying[L]):
    """Between a bus and its link: everything goes on to the ``main`` link, but events while the broker is away."""

    def __init__(
        self,
        spool: SpoolSettings,
        on_status: StatusListener,
        on_spool: Callable[[SpoolHealth], None],
        unheard: Callable[[Message], None],
    ) -> None:
        super().__init__(spool.max_age, unheard)
        self._on_status = on_status
        self._on_spool = on_spool
        self._store = Store(spool, self)
        self._numbers = 0
        self._ticks = 0
        self._due = float("inf")
        self._away_since: float | None = None
        self._told_mode = Mode.DIRECT

    # -- the contract -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect, to the broker and to the store."""
        self.main.open()
        self._store.open()

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

    def store_broken(self, error: Exception | None, /) -> None:
        """The store cannot be used, or can again."""
        if error is not None:
            log.error("the spool cannot be used, so events are not kept while the broker is away: %s", error)
        self._step(self._line.store_broken, error is not None, time.monotonic())

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
        self._go_on()

    def _go_on(self) -> None:
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


def _tell_mode(mode: Mode) -> None:
    if mode is Mode.KEEPING:
        log.warning("the broker is away, or the spool is not empty yet: events go into the spool")
    else:
        log.info("the spool is empty: events go to the broker")
