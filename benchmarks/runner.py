"""How a measurement is taken, repeated and summed up."""

from __future__ import annotations

import json
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

REPEATS = 3
MOST_MESSAGES = 1_000_000
"""In one sample, however long it shall last."""

Settings = Mapping[str, str | int | float]
"""What was varied, such as ``{"window": 100, "body": 256}``."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much a sample measures: so many messages, or as many as take about so many seconds."""

    messages: int = 10_000
    seconds: float | None = None

    def scaled(self, factor: float) -> Amount:
        """Fewer messages, for settings that wait for the broker most of the time; seconds stay."""
        return Amount(max(2, int(self.messages * factor)), self.seconds)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: wall-clock and processor time of the client (user and system, all threads).

    ``latencies`` are seconds per message, where the benchmark looks at single messages.
    """

    messages: int
    seconds: float
    cpu: float
    latencies: Sequence[float] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Medians of the samples of one setting. Latencies are those of all samples together."""

    benchmark: str
    client: str
    settings: Settings
    messages: int
    repeats: int
    messages_per_second: float
    cpu_us_per_message: float
    body_bytes: int | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    """Percentiles: ``{"p50": ..., "p99": ..., "max": ...}``; empty where none were taken."""
    of_ceiling: float | None = None
    """Its rate as a part of a plain socket's in the same rounds, where one was measured beside it."""
    rss_mb: Mapping[str, float] = field(default_factory=dict)
    """Resident memory by how much of the stream had passed; empty where it was not read."""
    idle_cpu: float | None = None
    """Seconds of processor time in a minute of waiting, where that was measured; there are no messages then."""


class Progress(Protocol):
    """Where a long run shows how far it is."""

    def measuring(self, benchmark: str, client: str, settings: Settings) -> AbstractContextManager[None]:
        """One setting is being measured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run shall do: where, how much, and how often."""

    url: str
    amount: Amount
    progress: Progress
    repeats: int = REPEATS
    tls_url: str | None = None
    """The same broker over TLS, where there is such a listener."""
    quick: bool = False
    given: int | None = None
    """Messages, where the user has named a number."""


class Stopwatch:
    """Times what happens between two moments, which may be in different threads of this process."""

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0
        self._running = False

    def start(self) -> None:
        """Begin."""
        self._running = True
        self._cpu, self._wall = cpu_seconds(), time.perf_counter()

    def start_once(self) -> None:
        """Begin, unless it runs already."""
        if not self._running:
            self.start()

    def stop(self, messages: int, latencies: Sequence[float] = ()) -> Sample:
        """End; gives what was measured."""
        return Sample(messages, time.perf_counter() - self._wall, cpu_seconds() - self._cpu, latencies)


def cpu_seconds() -> float:
    """Processor time of this process until now: not the children, for a private broker is one."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def repeat(
    plan: Plan,
    benchmark: str,
    client: str,
    settings: Settings,
    once: Callable[[int], Sample],
    *,
    scale: float = 1.0,
    body_bytes: int | None = None,
) -> Result:
    """Take ``plan.repeats`` samples, after a small one for warming up, and give their medians."""
    amount = plan.amount.scaled(scale)
    with plan.progress.measuring(benchmark, client, settings):
        warm_up = once(max(2, min(amount.messages, 20_000) // 10))
        messages = enough(warm_up, amount)
        samples = [once(messages) for _ in range(plan.repeats)]
    return summary(samples, benchmark=benchmark, client=client, settings=settings, body_bytes=body_bytes)


def enough(warm_up: Sample, amount: Amount) -> int:
    """Messages of a sample: as given, or what the warm-up's rate brings in the time."""
    if amount.seconds is None:
        return amount.messages
    return max(2, min(MOST_MESSAGES, int(warm_up.messages / warm_up.seconds * amount.seconds)))


def summary(
    samples: Sequence[Sample], *, benchmark: str, client: str, settings: Settings, body_bytes: int | None = None
) -> Result:
    """The medians. Not the best: what a user will see most of the time is what counts."""
    latencies = sorted(latency for sample in samples for latency in sample.latencies)
    return Result(
        benchmark=benchmark,
        client=client,
        settings=settings,
        messages=samples[0].messages,
        repeats=len(samples),
        messages_per_second=round(statistics.median(s.messages / s.seconds for s in samples), 1),
        cpu_us_per_message=round(statistics.median(s.cpu / s.messages * 1e6 for s in samples), 2),
        body_bytes=body_bytes,
        latency_ms=percentiles(latencies),
    )


def percentiles(ordered: Sequence[float]) -> dict[str, float]:
    """Percentiles of sorted seconds, in milliseconds (nearest rank)."""
    if not ordered:
        return {}
    last = len(ordered) - 1
    ranks = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(last, int(len(ordered) * rank))] * 1000, 3) for name, rank in ranks.items()}


def environment(broker: str) -> dict[str, str]:
    """What the numbers depend on."""
    found = {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "broker": broker,
    }
    for name in ("eventbus", "pika", "aio-pika", "uvloop"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # not installed, or run from a source tree
            continue
    return found


def write(path: Path, results: Iterable[Result], where: Mapping[str, str]) -> None:
    """Write everything as JSON."""
    content: dict[str, Any] = {"environment": dict(where), "results": [asdict(result) for result in results]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> tuple[list[Result], dict[str, str]]:
    """Read what :func:`write` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [Result(**result) for result in content["results"]], content["environment"]
