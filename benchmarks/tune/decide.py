"""The decision: which of the measured values to set. Plain functions over values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

ENOUGH = 0.95
"""The part of the best rate that a value has to reach. More costs memory, and more unknown outcomes at a lost link."""
NOISY = 0.25
"""Samples of one value that lie farther apart than this say that something else is at work."""
FAR_MS = 5.0
"""A round trip from here on is that of a broker which is not near."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a parameter with the rates of its samples, in messages a second."""

    value: int
    rates: tuple[float, ...]

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates)

    @property
    def noise(self) -> float:
        """How far the samples lie apart, as a part of the median."""
        return (max(self.rates) - min(self.rates)) / self.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One parameter: what to set, and what says so.

    ``value`` is None where the differences drown in the noise: then the default stays.
    """

    parameter: str
    value: int | None
    points: tuple[Point, ...]
    part_of_best: float = 1.0
    smaller: int | None = None
    """The next smaller value that was measured."""
    smaller_costs: float = 0.0
    """What part of the rate that one would cost."""
    noise: float = 0.0
    close: bool = False
    """The next smaller value may be as good: it differs by less than the noise."""
    kept: int | None = None
    """This value was kept: others are faster, but by less than the noise."""
    at_the_end: bool = False
    """The largest measured value: a still larger one may be faster."""

    @property
    def best(self) -> Point:
        """The fastest."""
        return max(self.points, key=lambda point: point.rate)

    def point(self, value: int) -> Point:
        """What was measured with this value."""
        return next(point for point in self.points if point.value == value)


def choose(parameter: str, points: Sequence[Point], *, enough: float = ENOUGH, keep: int | None = None) -> Choice:
    """The smallest value that reaches ``enough`` of the best rate: the knee of the curve.

    ``keep`` is a value that only a gain above the noise may replace.
    """
    ordered = tuple(sorted(points, key=lambda point: point.value))
    if not ordered:
        raise ValueError(f"nothing was measured of {parameter}")
    best = max(point.rate for point in ordered)
    differences = (best - min(point.rate for point in ordered)) / best
    noise = statistics.median(point.noise for point in ordered)
    if len(ordered) > 1 and differences <= noise:
        return Choice(parameter=parameter, value=None, points=ordered, noise=noise)
    kept = next((point for point in ordered if point.value == keep and best / point.rate - 1 <= noise), None)
    if kept is not None and kept.rate < enough * best:
        part = kept.rate / best
        return Choice(parameter=parameter, value=keep, points=ordered, part_of_best=part, noise=noise, kept=keep)
    position = next(n for n, point in enumerate(ordered) if point.rate >= enough * best)
    chosen = ordered[position]
    below = ordered[position - 1] if position else None
    costs = 1 - below.rate / chosen.rate if below else 0.0
    return Choice(
        parameter=parameter,
        value=chosen.value,
        points=ordered,
        part_of_best=chosen.rate / best,
        smaller=below.value if below else None,
        smaller_costs=costs,
        noise=noise,
        close=below is not None and costs < noise,
        at_the_end=len(ordered) > 1 and position == len(ordered) - 1,
    )


def sample_size(seconds: float, rate: float, least: int, most: int) -> int:
    """How many messages last about so long at this rate.

    ``least`` are needed for the value to matter at all, but not where they would take many times as long.
    """
    return max(2, min(most, max(int(rate * seconds), min(least, int(rate * seconds * 4)))))


def is_far(round_trip_ms: float | None) -> bool:
    """Whether waiting for the broker is what small windows do most."""
    return round_trip_ms is not None and round_trip_ms >= FAR_MS
