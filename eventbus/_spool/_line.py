"""Which way an event goes, to the broker or into the spool, so that none overtakes another. No I/O, no clock.

::

              marker came back, nothing kept since
    HOLDING ─────────────────────────────────────────► DIRECT
     ▲   │ ◄──────────────────────────────────────────  │
     │   │     the flight's deadline has to be renewed   │ broker away,
     │   │ broker away, or held for too long             │ or an outcome
     │   └────────────────► KEEPING ◄────────────────────┘ says so
     └──────────────────────┘
       broker back, and little is left in the spool

*DIRECT* publishes at the broker, *KEEPING* puts copies into the spool, *HOLDING* waits for a moment with neither. From
KEEPING there is no way to DIRECT but past a *marker*: a message that the bus puts into the spool behind its events.
When it comes out, whoever sends what is in the spool has had a confirm for everything before it. What was kept
meanwhile wants a further marker; if that is little, or no longer becomes less, new events are held until it is back, so
that DIRECT is reached under any load.

A bus begins HOLDING behind a marker: what a process before it has left in the spool goes first.
"""

from __future__ import annotations

import enum
from collections import deque

from eventbus._errors import BusClosed, PublishError
from eventbus._spool._actions import Action, Item, Keep, Mark, Send, Tell
from eventbus._spool._flight import Flight, before
from eventbus._spool._outcomes import not_kept, speaks_of_connection

HOLD_SECONDS = 1.0
"""Longest time that an event is held before it goes into the spool."""

HOLD_MOST = 1000
"""So many events in the spool are sent in a moment."""


class Mode(enum.Enum):
    """Where new events go."""

    DIRECT = enum.auto()
    HOLDING = enum.auto()
    KEEPING = enum.auto()


class Line:
    """The publishing side of one bus. ``out`` is where it puts what is to be done."""

    def __init__(self, out: deque[Action]) -> None:
        self.out = out
        self.mode = Mode.HOLDING
        self.up = False
        self.open: dict[int, Item] = {}
        """Tries at the broker without an outcome, in order."""
        self.verdicts: dict[int, PublishError | None] = {}
        """Outcomes of tries whose copies lie in the spool: these need not be sent again."""
        self.hold_until: float | None = None
        self._held: deque[Item] = deque()
        self._flight = Flight()
        self._closed = False
        self._storeless = False
        self._marker = 0
        self._marked = True  # nobody knows yet what lies in the spool
        self._since = 0
        self._round = 0

    @property
    def settled(self) -> bool:
        """Whether no try at the broker is open whose copy lies in the spool."""
        return self.mode is Mode.DIRECT or not self.open

    def marker_out_there(self) -> int | None:
        """The marker that has not come out yet."""
        return self._marker if self._marked else None

    # -- events -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The spool can be written to: what lies there before this marker goes first."""
        self._mark()

    def publish(self, item: Item, now: float) -> None:
        """An event of the bus."""
        if self._closed:
            self._tell(item, BusClosed("the bus is stopping or has stopped, so nothing was sent"))
        elif self._storeless:
            self._flight.count += 1
            self.open[item.number] = item
            self.out.append(Send(item, item.deadline))
        elif self.mode is Mode.KEEPING:
            self._keep(item)
        elif self.mode is Mode.HOLDING or not self._send(item, before(item.deadline, now), now):
            self._hold(item, now)

    def came(self, now: float) -> None:
        """The broker takes publishes."""
        self.up = True
        self._advance(now)

    def went(self) -> None:
        """The broker takes none."""
        self.up = False
        self._keep_all()

    def tried(self, item: Item, error: PublishError | None, now: float) -> None:
        """The outcome of a try at the broker."""
        del self.open[item.number]
        self._flight.leave()
        if error is None or not self._lost(error):
            if item.copied:
                self.verdicts[item.number] = error if item.told else None
            self._tell(item, error)
        else:
            item.lost = error
            if self._storeless and not item.copied:
                self._tell(item, error)
            elif not item.copied:
                self._keep_all(item)
            elif item.refused is not None:
                self._tell(item, not_kept(item.refused, error))
        self._advance(now)

    def kept(self, item: Item, error: PublishError | None) -> None:
        """The spool has taken the copy, or has not."""
        item.refused = error
        if error is None:
            self._tell(item, None)
        elif item.number not in self.open:
            self._tell(item, not_kept(error, item.lost))

    def marker_out(self, number: int, now: float) -> None:
        """A marker has come out of the spool: what was kept before it has been sent."""
        if self._marked and number == self._marker:
            self._marked = False
            self._advance(now)

    def mark_again(self) -> None:
        """The notice about the marker cannot come any more."""
        if self._marked:
            self._since += self._round
            self._marked = False
            self._mark()

    def store_broken(self, broken: bool, now: float) -> None:
        """The store cannot be used at all, or can again. Without it this is a bus without a spool."""
        if broken and not self._storeless:
            self._storeless = True
            self._marked, self._since = False, 0
            self._release(now)
        elif not broken and self._storeless:
            self._storeless = False
            if not self.up:
                self._keep_all()

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self.mode is Mode.HOLDING and self.hold_until is not None and now >= self.hold_until:
            self._keep_all()

    def close(self) -> None:
        """The bus ends: what has no outcome goes into the spool, and nothing comes after it."""
        self._keep_all()
        self._closed = True

    # -- decisions --------------------------------------------------------------------------------------

    def _lost(self, error: PublishError) -> bool:
        return speaks_of_connection(error) or (self._closed and isinstance(error, BusClosed))

    def _advance(self, now: float) -> None:
        """Go on to DIRECT, or one step towards it, if nothing is in the way."""
        if self._closed or not self.up or self._marked or self._storeless:
            return
        if self.mode is Mode.HOLDING and not self.open:
            self._release(now)
        elif self.mode is Mode.KEEPING and self._since:
            little = self._since <= HOLD_MOST or 2 * self._since > self._round
            self._mark()
            if little:
                self.mode = Mode.HOLDING
        elif self.mode is Mode.KEEPING and not self.open:
            self._release(now)

    def _release(self, now: float) -> None:
        self.mode, self.hold_until = Mode.DIRECT, None
        self.verdicts.clear()
        held, self._held = self._held, deque()
        if held:
            deadline = max(now + 0.1, min(before(item.deadline, now) for item in held))
            for item in held:
                self._send(item, deadline, now)

    def _send(self, item: Item, deadline: float, now: float) -> bool:
        shared = self._flight.join(deadline, now)
        if shared is None:
            return False
        self.open[item.number] = item
        self.out.append(Send(item, shared))
        return True

    def _hold(self, item: Item, now: float) -> None:
        self.mode = Mode.HOLDING
        limit = min(now + HOLD_SECONDS, before(item.deadline, now))
        self.hold_until = limit if self.hold_until is None else min(self.hold_until, limit)
        self._held.append(item)

    def _keep_all(self, *failed: Item) -> None:
        """From now on into the spool; first what is on its way to the broker, for its callers shall not wait."""
        if self._storeless:
            return
        self.mode, self.hold_until = Mode.KEEPING, None
        for item in sorted((*self.open.values(), *failed), key=lambda item: item.number):
            if not item.copied:
                self._keep(item)
        held, self._held = self._held, deque()
        for item in held:
            self._keep(item)

    def _keep(self, item: Item) -> None:
        item.copied = True
        self._since += 1
        self.out.append(Keep(item))

    def _mark(self) -> None:
        if not self._closed:
            self._marker += 1
            self._marked = True
            self._round, self._since = self._since, 0
            self.out.append(Mark(self._marker))

    def _tell(self, item: Item, error: PublishError | None) -> None:
        if not item.told:
            item.told = True
            self.out.append(Tell(item, error))
