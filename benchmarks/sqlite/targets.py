"""What the bus on ``sqlite:///`` must reach, judged by results of one run. Pure functions over results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.runner import Result
from benchmarks.sqlite.registry import BARE, FEW, PREFETCH

OURS = ("eventbus-sync", "eventbus-async")
PREFIX = "sqlite/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One target and what was measured of it. ``met`` is None where it was not measured."""

    work: str
    client: str
    target: str
    measured: str
    met: bool | None

    def __str__(self) -> str:
        word = {True: "met", False: "MISSED", None: "not measured"}[self.met]
        measured = f"{self.measured}; " if self.measured else ""
        return f"target {self.work}, {self.client}: {measured}wanted {self.target}: {word}"


Judge = Callable[[str, Sequence[Result]], Verdict]


def verdicts(results: Iterable[Result]) -> list[Verdict]:
    """All targets for both buses, in the order of the works. They hold for ``synchronous=FULL``."""
    full = [
        result
        for result in results
        if result.benchmark.startswith(PREFIX) and result.settings.get("synchronous") == "FULL"
    ]
    if not full:
        return []
    judges: list[Judge] = [_publish_one, _publish, _handle, _processes, _latency]
    return [judge(client, full) for judge in judges for client in OURS] + [_claim(OURS[0], full)]


def _of(work: str, client: str, results: Sequence[Result]) -> Result | None:
    found = (r for r in results if r.benchmark == PREFIX + work and r.client == client)
    return next(found, None)


def _missing(work: str, client: str, target: str) -> Verdict:
    return Verdict(work=work, client=client, target=target, measured="", met=None)


def _beside_bare(mine: Result, results: Sequence[Result]) -> str:
    bare = _of(mine.benchmark.removeprefix(PREFIX), BARE, results)
    rate = f"{mine.messages_per_second:,.0f}/s"
    if bare is None or mine.of_ceiling is None:
        return rate
    return f"{rate}, {mine.of_ceiling:.2f} x the bare loop's {bare.messages_per_second:,.0f}/s"


def _publish_one(client: str, results: Sequence[Result]) -> Verdict:
    work, target = "publish-one", ">= 0.80 x the bare loop"
    mine = _of(work, client, results)
    if mine is None or mine.of_ceiling is None:
        return _missing(work, client, target)
    measured = _beside_bare(mine, results)
    return Verdict(work=work, client=client, target=target, measured=measured, met=mine.of_ceiling >= 0.8)


def _publish(client: str, results: Sequence[Result]) -> Verdict:
    work, target = "publish", ">= 20,000/s or 0.50 x the bare loop"
    mine = _of(work, client, results)
    if mine is None:
        return _missing(work, client, target)
    met = mine.messages_per_second >= 20_000 or (mine.of_ceiling or 0.0) >= 0.5
    return Verdict(work=work, client=client, target=target, measured=_beside_bare(mine, results), met=met)


def _handle(client: str, results: Sequence[Result]) -> Verdict:
    return _rate("handle", client, results, 8_000, ">= 8,000/s")


def _processes(client: str, results: Sequence[Result]) -> Verdict:
    """A result is there only if no process failed and no message was lost or handled twice."""
    return _rate("processes", client, results, 5_000, ">= 5,000/s, no error, no duplicate")


def _rate(work: str, client: str, results: Sequence[Result], least: float, target: str) -> Verdict:
    mine = _of(work, client, results)
    if mine is None:
        return _missing(work, client, target)
    met = mine.messages_per_second >= least
    return Verdict(work=work, client=client, target=target, measured=_beside_bare(mine, results), met=met)


def _latency(client: str, results: Sequence[Result]) -> Verdict:
    work, target = "latency", "p50 <= 5 ms, p99 <= 25 ms"
    mine = _of(work, client, results)
    if mine is None or not mine.latency_ms:
        return _missing(work, client, target)
    p50, p99 = mine.latency_ms["p50"], mine.latency_ms["p99"]
    measured = f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"
    return Verdict(work=work, client=client, target=target, measured=measured, met=p50 <= 5.0 and p99 <= 25.0)


def _claim(client: str, results: Sequence[Result]) -> Verdict:
    """By the median of the batches, each of which has as many messages."""
    work, target = "claim", f"at most 2 x the time with {FEW:,} queued"
    mine = {
        int(r.settings["queued"]): r.latency_ms["p50"] * 1000 / PREFETCH
        for r in results
        if r.benchmark == PREFIX + work and r.client == client
    }
    if FEW not in mine or len(mine) < 2:
        return _missing(work, client, target)
    most = max(mine)
    factor = mine[most] / mine[FEW]
    measured = f"{mine[most]:.1f} us a message with {most:,} queued, {factor:.2f} x the {mine[FEW]:.1f} us with {FEW:,}"
    return Verdict(work=work, client=client, target=target, measured=measured, met=factor <= 2.0)
