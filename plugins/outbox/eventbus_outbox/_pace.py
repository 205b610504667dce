"""When a relay looks again."""

from __future__ import annotations

import random

from eventbus import exponential

SOON = 0.02

TROUBLE = exponential(0.25, 30)
"""Pauses while the broker or the database is away."""


class Pace:
    """Pauses in seconds: none while there is work, growing ones up to ``poll`` while there is none."""

    def __init__(self, poll: float) -> None:
        self.idling = False
        """Whether the pause is one for want of rows, so that a new row ends it."""
        self._poll = poll
        self._empty = 0
        self._troubles = 0

    def found(self) -> float:
        """There was work, so there may be more."""
        self._empty = self._troubles = 0
        self.idling = False
        return 0.0

    def idle(self) -> float:
        """There was none."""
        self._troubles = 0
        self._empty += 1
        self.idling = True
        return min(self._poll, SOON * 2.0 ** min(self._empty - 1, 32))

    def trouble(self) -> float:
        """Something is away."""
        self._empty = 0
        self._troubles += 1
        self.idling = False
        return TROUBLE.pause(self._troubles, random.random())
