"""tune: which window, prefetch and concurrency to set, measured on the user's own broker.

It publishes to queues of its own, which expire, and handles what it has published.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.runner import Progress
from benchmarks.tune.advice import Advice, BusAdvice
from benchmarks.tune.measure import Measure, TuneError, broker
from benchmarks.tune.sweep import QUICK, Scope, Sweeps

__all__ = ["BUSES", "Advice", "BusAdvice", "TuneError", "tune"]

BUSES = ("sync", "async")


def tune(
    url: str,
    *,
    progress: Progress,
    say: Callable[[str], None] | None = None,
    buses: Sequence[str] = BUSES,
    handler_ms: float = 0.0,
    quick: bool = False,
    amount: int | None = None,
    measure: Measure | None = None,
) -> Advice:
    """Measure and advise.

    ``handler_ms`` is how long the user's handlers wait; ``amount`` the messages of every sample, instead of as many
    as take a moment; ``say`` gets a line after each part (stderr by default); ``measure`` stands in for the broker.

    :raises TuneError: the broker cannot be reached or takes no publishes; the text is meant for the user.
    """
    scope = replace(QUICK if quick else Scope(), amount=amount)
    told = say or (lambda text: print(text, file=sys.stderr, flush=True))
    began = time.monotonic()

    def advise(measure: Measure) -> tuple[BusAdvice, ...]:
        return tuple(Sweeps(measure, bus, scope, handler_ms, progress, told).advice() for bus in buses)

    if measure is not None:
        found = advise(measure)
    else:
        with broker(url) as real:
            found = advise(real)
    notes = () if url.partition(":")[0] != "memory" else ("In memory there is no wire: take these for a trial only.",)
    # The scheme alone: the URL may hold a password.
    return Advice(broker=url.partition(":")[0], seconds=time.monotonic() - began, buses=found, notes=notes)
