"""When a session has something to do though nobody asks for it. Times are those of the monotonic clock."""

from __future__ import annotations

import time

TICK = 1.0
"""Seconds between looks at the file while nothing happens; other processes' datagrams come before."""

_QUICK = 0.005


class Schedule:
    """The times of one session: its lease, others' leases, the next look at the file, and what is due in queues."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._renew_at = self._reap_at = self._tick_at = 0.0
        self._due_at: float | None = None  # Unix time: should the clock be set, the moment moves with it
        self._pause = TICK

    def begin(self) -> None:
        """A session has begun."""
        now = time.monotonic()
        self._renew_at, self._reap_at, self._tick_at = now + self._lease / 3, now + self._lease / 2, now + TICK
        self._pause = TICK
        self.look()

    def look(self) -> None:
        """What is due in queues is not known: found anew with the next transaction."""
        self._due_at = 0.0

    def due_at(self, wall: float | None) -> None:
        """Something is due in queues at this Unix time (None: nothing is)."""
        self._due_at = wall

    def renews(self, now: float) -> bool:
        """Whether the lease has to be renewed."""
        return now >= self._renew_at

    def reaps(self, now: float) -> bool:
        """Whether to look for sessions whose lease has run out."""
        return now >= self._reap_at

    def passes(self, now: float) -> bool:
        """Whether something is due in queues."""
        return self._due_at is not None and now >= _monotonic(self._due_at)

    def ticks(self, now: float) -> bool:
        """Whether to look at the file and at the neighbour."""
        return now >= self._tick_at

    def needed(self, now: float) -> bool:
        """Whether a transaction is needed."""
        return self.renews(now) or self.reaps(now) or self.passes(now)

    def next(self) -> float:
        """When any of it is."""
        times = (self._tick_at, self._renew_at, self._reap_at)
        return min(times) if self._due_at is None else min(*times, _monotonic(self._due_at))

    def done(self, now: float, *, renewed: bool, reaped: bool) -> None:
        """A transaction has done these."""
        if renewed:
            self._renew_at = now + self._lease / 3
        if reaped:
            self._reap_at = now + self._lease / 2

    def ticked(self, now: float, *, missed: bool) -> bool:
        """A look was taken; ``missed``: it found what no datagram had told of, so the next ones follow soon.

        Says whether all is calm.
        """
        self._pause = _QUICK if missed else min(TICK, self._pause * 2)
        self._tick_at = now + self._pause
        return self._pause == TICK


def _monotonic(wall: float) -> float:
    """A Unix time on the monotonic clock, as both stand now."""
    return time.monotonic() + wall - time.time()
