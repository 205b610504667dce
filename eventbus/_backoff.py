"""Pauses between the attempts of a failed delivery."""

from __future__ import annotations

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait before the next attempt; made by :func:`exponential` and :func:`fixed`.

    After attempt *n* the pause is ``first * factor ** (n - 1)`` seconds, at most ``maximum``; ``jitter`` is the share
    of it that is drawn by lot, so that what failed together does not come again together.
    """

    first: float
    maximum: float
    factor: float
    jitter: float

    def __post_init__(self) -> None:
        if self.first < 0 or self.maximum < 0 or self.factor < 1 or not 0 <= self.jitter <= 1:
            raise ValueError("a backoff wants first >= 0, maximum >= 0, factor >= 1 and jitter from 0 to 1")

    def pause(self, attempt: int, luck: float) -> float:
        """Seconds between ``attempt`` and the one after it, for a ``luck`` in [0, 1)."""
        whole: float = min(self.maximum, self.first * self.factor ** min(attempt - 1, 64))
        return whole * (1 - self.jitter * (1 - luck))


def exponential(first: float = 1.0, maximum: float = 300.0, *, factor: float = 2.0, jitter: float = 0.5) -> Backoff:
    """Pauses that grow: ``first`` seconds, then ``factor`` times as long each time, at most ``maximum``."""
    return Backoff(first=first, maximum=maximum, factor=factor, jitter=jitter)


def fixed(seconds: float, *, jitter: float = 0.0) -> Backoff:
    """The same pause after every attempt, in seconds."""
    return Backoff(first=seconds, maximum=seconds, factor=1.0, jitter=jitter)
