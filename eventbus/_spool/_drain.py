"""Sending what is in the spool, in its order: what comes next, and what becomes of it. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from eventbus._errors import PublishError
from eventbus._message import Incoming
from eventbus._settlement import ACK, DeadLetter, Settlement, dead_letter
from eventbus._spool._actions import Action, Entry, Forward, Notify, Settle
from eventbus._spool._copies import Kept, Marker, restore, unpack
from eventbus._spool._flight import Flight
from eventbus._spool._line import Line
from eventbus._spool._outcomes import Fate, fate

TRY_SECONDS = 10.0
"""Deadline of one try to send an event from the spool."""

AGAIN_SECONDS = 0.2
"""Pause after a try that failed."""

REFUSED_SECONDS = 1.0
PATIENCE = 30.0
"""A broker that has just come back may refuse for a while: it has queues without a leader, or no exchange yet."""

MOST_KNOWN = 1000


class Drain:
    """The sending side: the deliveries from the spool of one bus, which come while no other bus gets them.

    ``line`` is the publishing side of the same bus: it knows what was sent already.
    """

    def __init__(self, out: deque[Action], line: Line, bus: str, max_age: float) -> None:
        self.out = out
        self.halted = False
        self.leaving = False
        self.paused_until = 0.0
        self._line = line
        self._bus = bus
        self._max_age = max_age
        self._waiting: deque[Entry] = deque()
        self._open: dict[int, Entry] = {}
        self._failed: list[Entry] = []
        self._stray: dict[int, Entry] = {}
        self._known: dict[tuple[str, int], PublishError | None] = {}
        self._flight = Flight()
        self._arrivals = 0
        self._refused_since: float | None = None

    def open(self) -> int:
        """Tries without an outcome."""
        return len(self._open) + len(self._stray)

    def busy(self) -> bool:
        """Whether there is anything here."""
        return bool(self._waiting or self._open or self._failed)

    def events(self) -> int:
        """Events that are here, unsettled."""
        entries = (*self._waiting, *self._open.values(), *self._failed)
        return sum(isinstance(entry.record, Kept) for entry in entries)

    def holds(self, marker: int) -> bool:
        """Whether this marker of our own bus is here."""
        return any(
            isinstance(e.record, Marker) and (e.record.bus, e.record.marker) == (self._bus, marker)
            for e in self._waiting
        )

    def oldest(self) -> float | None:
        """When the oldest event that is here was published, in Unix seconds."""
        firsts = (next(iter(entries), None) for entries in (self._open.values(), self._failed, self._waiting))
        ages = [entry.record.at for entry in firsts if entry is not None and isinstance(entry.record, Kept)]
        return min(ages, default=None)

    # -- events -----------------------------------------------------------------------------------------

    def delivered(self, incoming: Incoming, clock: float) -> None:
        """A delivery from the spool."""
        record = unpack(incoming.message) if incoming.problem is None else None
        if record is None:
            reason = incoming.problem or "not an event that a spool keeps"
            settlement = DeadLetter(reason=reason, verbatim=incoming.problem is not None)
            self.out.append(Settle(incoming, settlement, "buried"))
            return
        self._arrivals += 1
        entry = Entry(self._arrivals, incoming, record)
        if self._too_old(entry, clock):
            self._drop(entry)
        else:
            self._waiting.append(entry)

    def gone(self, released: bool) -> None:
        """The consumer is gone: what is here goes back, and comes again here or at another bus."""
        if released:
            self.leaving = False
        self._stray.update(self._open)
        self._open.clear()
        self._waiting.clear()
        self._failed.clear()

    def reconnected(self) -> None:
        """The broker takes publishes: what it refuses now is worth some patience."""
        self._refused_since = None
        self.paused_until = 0.0

    def forwarded(self, entry: Entry, error: PublishError | None, now: float) -> None:
        """The outcome of a try to send an event."""
        self._flight.leave()
        if self._stray.pop(entry.number, None) is not None:
            if fate(error, mandatory=False) in (Fate.SENT, Fate.UNHEARD) and isinstance(entry.record, Kept):
                self._known[entry.record.bus, entry.record.number] = error
                if len(self._known) > MOST_KNOWN:  # the oldest went to another bus
                    del self._known[next(iter(self._known))]
            return
        del self._open[entry.number]
        self._conclude(entry, error, now)

    def notified(self, entry: Entry) -> None:
        """The notice about a marker has reached its bus, or there is no such bus any more."""
        if self._open.pop(entry.number, None) is not None:
            self.out.append(Settle(entry.incoming, ACK, "marker"))
        self._stray.pop(entry.number, None)

    def tick(self, clock: float) -> None:
        """Time has passed: what is too old goes, also while the broker is away."""
        old = [entry for entry in self._waiting if self._too_old(entry, clock)]
        if old:
            self._waiting = deque(entry for entry in self._waiting if entry not in old)
            for entry in old:
                self._drop(entry)

    # -- going on ---------------------------------------------------------------------------------------

    def go(self, now: float, clock: Callable[[], float]) -> None:
        """Send what can be sent now. ``clock`` gives Unix seconds, for ages."""
        if self._failed and not self._open:
            # Each try has its outcome: from the first that failed, in order.
            self._failed.sort(key=lambda entry: entry.number)
            self._waiting.extendleft(reversed(self._failed))
            self._failed.clear()
        while self._may_send(now) and self._next(now, clock):
            pass

    def _may_send(self, now: float) -> bool:
        return (
            bool(self._waiting)
            and self._line.up
            and self._line.settled
            and not (self.halted or self.leaving or self._failed or self._stray)
            and now >= self.paused_until
        )

    def _next(self, now: float, clock: Callable[[], float]) -> bool:
        """Deal with the next entry; False when it has to wait."""
        entry = self._waiting[0]
        record = entry.record
        if isinstance(record, Marker):
            return self._marker(entry, record, now)
        known = self._verdict(record)
        if known is not None:
            self._waiting.popleft()
            self._conclude(entry, known[0], now)
            return True
        message = restore(entry.incoming.message, record, clock())
        if message is None or self._too_old(entry, clock()):
            self._drop(self._waiting.popleft())
            return True
        deadline = self._flight.join(now + TRY_SECONDS, now)
        if deadline is None:
            return False
        self._waiting.popleft()
        self._open[entry.number] = entry
        self.out.append(Forward(entry, message, deadline))
        return True

    def _marker(self, entry: Entry, marker: Marker, now: float) -> bool:
        if self._open:
            return False
        self._waiting.popleft()
        if marker.bus == self._bus or not marker.address:
            self.out.append(Settle(entry.incoming, ACK, "marker"))
            if marker.bus == self._bus:
                self._line.marker_out(marker.marker, now)
        else:
            self._open[entry.number] = entry
            self.out.append(Notify(entry, marker))
        return True

    def _verdict(self, record: Kept) -> tuple[PublishError | None] | None:
        """The outcome of an event that was sent before, if it is known."""
        if record.bus == self._bus and record.number in self._line.verdicts:
            return (self._line.verdicts.pop(record.number),)
        if (record.bus, record.number) in self._known:
            return (self._known.pop((record.bus, record.number)),)
        return None

    def _conclude(self, entry: Entry, error: PublishError | None, now: float) -> None:
        assert isinstance(entry.record, Kept)
        what = fate(error, mandatory=entry.record.mandatory)
        if what is Fate.REFUSED and self._refused_since is None:
            self._refused_since = now
        if what is Fate.REFUSED and now < (self._refused_since or now) + PATIENCE:
            what, pause = Fate.AGAIN, REFUSED_SECONDS
        else:
            pause = AGAIN_SECONDS
        if what is Fate.AGAIN:
            self._failed.append(entry)
            self.paused_until = now + pause
        elif what is Fate.SENT:
            self.out.append(Settle(entry.incoming, ACK, "sent"))
        elif what is Fate.UNHEARD:
            self.out.append(Settle(entry.incoming, ACK, "unheard", restore(entry.incoming.message, entry.record, 0.0)))
        else:
            assert error is not None
            settlement: Settlement = dead_letter("the broker did not take it from the spool", error)
            self.out.append(Settle(entry.incoming, settlement, "buried"))

    def _too_old(self, entry: Entry, clock: float) -> bool:
        return isinstance(entry.record, Kept) and clock - entry.record.at > self._max_age

    def _drop(self, entry: Entry) -> None:
        self.out.append(Settle(entry.incoming, ACK, "expired"))
