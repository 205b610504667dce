"""How a measurement is taken, repeated, summed up and shown."""

from __future__ import annotations

import json
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

REPEATS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run shall do: where, and how much."""

    url: str
    messages: int
    repeats: int = REPEATS


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: wall-clock and processor time of this process (user and system, all threads)."""

    messages: int
    seconds: float
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Medians of the samples of one setting."""

    benchmark: str
    bus: str
    setting: str
    messages: int
    repeats: int
    messages_per_second: float
    cpu_us_per_message: float


class Stopwatch:
    """Times what happens between two moments, which may be in different threads of this process."""

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0
        self._running = False

    def start(self) -> None:
        """Begin."""
        self._running = True
        self._cpu, self._wall = _cpu_seconds(), time.perf_counter()

    def start_once(self) -> None:
        """Begin, unless it runs already."""
        if not self._running:
            self.start()

    def stop(self, messages: int) -> Sample:
        """End; gives what was measured."""
        return Sample(messages, time.perf_counter() - self._wall, _cpu_seconds() - self._cpu)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)  # not the children: a private broker is one
    return used.ru_utime + used.ru_stime


def repeat(plan: Plan, benchmark: str, bus: str, setting: str, once: Callable[[int], Sample]) -> Result:
    """Take ``plan.repeats`` samples, after a small one for warming up, and give their medians."""
    once(max(2, plan.messages // 10))
    samples = [once(plan.messages) for _ in range(plan.repeats)]
    return summary(samples, benchmark=benchmark, bus=bus, setting=setting)


def summary(samples: Sequence[Sample], *, benchmark: str, bus: str, setting: str) -> Result:
    """The medians. Not the best: what a user will see most of the time is what counts."""
    return Result(
        benchmark=benchmark,
        bus=bus,
        setting=setting,
        messages=samples[0].messages,
        repeats=len(samples),
        messages_per_second=round(statistics.median(s.messages / s.seconds for s in samples), 1),
        cpu_us_per_message=round(statistics.median(s.cpu / s.messages * 1e6 for s in samples), 2),
    )


ROW = "{:<16} {:<6} {:<14} {:>9} {:>12} {:>12}"


def header() -> str:
    """First lines of the table."""
    titles = ("benchmark", "bus", "setting", "messages", "messages/s", "CPU us/msg")
    return ROW.format(*titles) + "\n" + ROW.format(*("-" * len(title) for title in titles))


def row(result: Result) -> str:
    """One line of the table."""
    return ROW.format(
        result.benchmark,
        result.bus,
        result.setting,
        result.messages,
        f"{result.messages_per_second:,.0f}",
        f"{result.cpu_us_per_message:.1f}",
    )


def environment(broker: str) -> dict[str, str]:
    """What the numbers depend on."""
    found = {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "broker": broker,
    }
    for name in ("eventbus", "pika", "aio-pika"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a source tree
            continue
    return found


def write(path: Path, results: Iterable[Result], where: dict[str, str]) -> None:
    """Write everything as JSON."""
    content: dict[str, Any] = {"environment": where, "results": [asdict(result) for result in results]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
