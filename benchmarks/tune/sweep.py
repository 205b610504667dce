"""The sweeps: each parameter over its values, in rounds, so that a drift of the machine falls on all values alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.runner import Progress, Sample, percentiles
from benchmarks.tune.advice import DEFAULTS, BusAdvice
from benchmarks.tune.decide import Choice, Point, choose, sample_size
from benchmarks.tune.measure import Measure

WARM_UP = 10
MOST_MESSAGES = 20_000
"""Of one sample."""
FILLS = {"window": 4, "concurrency": 4, "prefetch": 10}
"""How many times over a sample fills its limit, at least, before it can show what it does. What is prefetched before
the first handler runs comes before the clock starts, so it has to be a small part of the sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """How much to try."""

    windows: Sequence[int] = (1, 10, 50, 100, 250, 500, 1000, 2000)
    prefetches: Sequence[int] = (1, 5, 10, 20, 50, 100, 200, 500, 1000)
    concurrencies: Sequence[int] = (1, 2, 4, 8, 16, 32)
    rounds: int = 3
    seconds: float = 0.15
    """Of one sample, about."""
    budget: float = 9.0
    """Seconds after which a sweep begins no further round."""
    amount: int | None = None
    """Messages of every sample, where the user has named a number."""


QUICK = Scope(
    windows=(1, 10, 100, 500, 1000), prefetches=(1, 10, 50, 200, 1000), concurrencies=(1, 4, 16), rounds=2,
    seconds=0.08, budget=3.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sweeps:
    """The sweeps of one bus."""

    measure: Measure
    bus: str
    scope: Scope
    handler_ms: float
    progress: Progress
    say: Callable[[str], None]

    def advice(self) -> BusAdvice:
        """All three. Concurrency before prefetch, which depends on it."""
        trips: list[float] = []

        def publish(window: int, messages: int) -> Sample:
            sample = self.measure.publish(self.bus, window, messages)
            trips.extend(sample.latencies)
            return sample

        widest = max(*self.scope.prefetches, *self.scope.concurrencies)

        def concurrent(concurrency: int, messages: int) -> Sample:
            return self.measure.consume(self.bus, widest, concurrency, self.handler_ms, messages)

        window = self._sweep("window", self.scope.windows, publish, keep=DEFAULTS["window"])
        # One at a time keeps the order of events.
        concurrency = self._sweep("concurrency", self.scope.concurrencies, concurrent, keep=DEFAULTS["concurrency"])
        handlers = concurrency.value or 1

        def prefetched(prefetch: int, messages: int) -> Sample:
            return self.measure.consume(self.bus, prefetch, handlers, self.handler_ms, messages)

        prefetch = self._sweep("prefetch", self.scope.prefetches, prefetched)
        return BusAdvice(
            bus=self.bus,
            round_trip_ms=percentiles(sorted(trips)).get("p50"),
            window=window,
            concurrency=concurrency,
            prefetch=prefetch,
            handler_ms=self.handler_ms,
        )

    def _sweep(
        self, parameter: str, values: Sequence[int], once: Callable[[int, int], Sample], keep: int | None = None
    ) -> Choice:
        with self.progress.measuring("tune", self.bus, {parameter: f"{min(values)} to {max(values)}"}):
            rates = self._rates(parameter, values, once)
        choice = choose(parameter, [Point(value, tuple(found)) for value, found in rates.items()], keep=keep)
        self.say(f"{self.bus}: {parameter} measured")
        return choice

    def _rates(
        self, parameter: str, values: Sequence[int], once: Callable[[int, int], Sample]
    ) -> dict[int, list[float]]:
        rates: dict[int, list[float]] = {value: [] for value in values}
        began = time.monotonic()
        rate = _rate(once(values[0], WARM_UP))
        for number in range(self.scope.rounds):
            # One round alone says nothing about noise, so there are two even where the broker is slow.
            if number >= 2 and time.monotonic() - began > self.scope.budget:
                break
            for value in values:
                guess = rates[value][-1] if rates[value] else rate
                rate = _rate(once(value, self._messages(guess, FILLS[parameter] * value)))
                rates[value].append(rate)
        return rates

    def _messages(self, rate: float, least: int) -> int:
        if self.scope.amount is not None:
            return self.scope.amount
        return sample_size(self.scope.seconds, rate, least, MOST_MESSAGES)


def _rate(sample: Sample) -> float:
    return sample.messages / sample.seconds
