"""Publishes that share one deadline."""

from __future__ import annotations

MARGIN = 0.2
MOST_MARGIN = 1.0


def before(deadline: float, now: float) -> float:
    """When to give up the broker, so that there is time left to put the event into the spool."""
    return deadline - min(MOST_MARGIN, MARGIN * max(0.0, deadline - now))


class Flight:
    """Counts publishes that are on their way to the broker, and gives them one deadline.

    A link sends what is unconfirmed again after a reconnect, until its deadline. With different deadlines the first of
    two events could be given up just before a reconnect and the second be sent just after it: the order would be lost.
    """

    __slots__ = ("_deadline", "_fresh_until", "count")

    def __init__(self) -> None:
        self.count = 0
        self._deadline = 0.0
        self._fresh_until = 0.0

    def join(self, deadline: float, now: float) -> float | None:
        """The deadline for one publish more; None when it has to wait until all others have their outcomes."""
        if self.count == 0:
            self._deadline = deadline
            # Later ones get less time than the first; half of it must do.
            self._fresh_until = now + (deadline - now) / 2
        elif now > self._fresh_until or deadline < self._deadline:
            return None
        self.count += 1
        return self._deadline

    def leave(self) -> None:
        """One has its outcome."""
        self.count -= 1
