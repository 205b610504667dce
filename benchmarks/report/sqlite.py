"""The charts of ``benchmarks sqlite``, and what the page says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.report import draw
from benchmarks.report.style import Chart
from benchmarks.runner import Result
from benchmarks.screen import milliseconds
from benchmarks.sqlite.registry import BARE, FEW, SYNCHRONOUS
from benchmarks.sqlite.targets import PREFIX

ABOUT = {
    "publish-one": "Each event is committed before the next is published.",
    "publish": "As many as there are, in transactions of up to 1,000 where the client has them.",
    "handle": "Published, handled and settled in one process.",
    "processes": "Four processes publish and four handle, all on one file.",
    "latency": "From one process to another, a message now and then; from before the call to the handler's first line.",
    "claim": "From asking for a batch of 200 to having it, by how many messages are queued; of a batch that takes more "
    "than 3 s, what came until then stands for the rest.",
    "idle": "Nothing happens. Processor time of the waiting process.",
}
RATES = ("publish-one", "publish", "handle", "processes")


def about(benchmark: str) -> str:
    """A sentence for its section."""
    said = ABOUT.get(benchmark.removeprefix(PREFIX), "")
    return f"{said} Every client has a file in WAL mode with the same synchronous." if said else ""


def _of(results: Sequence[Result], work: str, synchronous: str) -> list[Result]:
    return [r for r in results if r.benchmark == PREFIX + work and r.settings.get("synchronous") == synchronous]


def rates(results: Sequence[Result]) -> Iterator[Chart]:
    """Bars for each work and ``synchronous``."""
    for synchronous in SYNCHRONOUS:
        for work in RATES:
            found = _of(results, work, synchronous)
            bare = next((result for result in found if result.client == BARE), None)
            rest = sorted((r for r in found if r.client != BARE), key=lambda result: result.messages_per_second)
            if not rest:
                continue
            title = f"SQLite, {work.replace('-', ' ')}, synchronous={synchronous}"
            ours = [result for result in rest if result.client.startswith("eventbus") and result.of_ceiling]
            if ours:
                title += f": {ours[-1].client} reaches {ours[-1].of_ceiling:.0%} of the bare loop"
            draws = partial(draw.bars, rest, bare, called="bare loop")
            size = (10.0, 1.9 + 0.34 * len(rest))
            name = f"sqlite-{work}-{synchronous.lower()}"
            yield Chart(name, PREFIX + work, title, f"{ABOUT[work]} Medians.", size, draws)


def times(results: Sequence[Result]) -> Iterator[Chart]:
    """Latencies of an idle bus, and of claims."""
    for synchronous in SYNCHRONOUS:
        found = _of(results, "latency", synchronous)
        if found:
            worst = max(found, key=lambda result: result.latency_ms["p99"])
            title = f"SQLite, idle bus, synchronous={synchronous}: p99 is at most "
            title += f"{milliseconds(worst.latency_ms['p99'])} ms ({worst.client})"
            yield _ranges(f"sqlite-latency-{synchronous.lower()}", "latency", title, [(r.client, r) for r in found])
        claims = sorted(_of(results, "claim", synchronous), key=lambda result: result.client)
        if any(result.settings["queued"] != FEW for result in claims):
            title = f"SQLite, a batch of 200 from a short and a long queue, synchronous={synchronous}"
            rows = [(f"{r.client}  {r.settings['queued']:,}", r) for r in claims]
            yield _ranges(f"sqlite-claim-{synchronous.lower()}", "claim", title, rows)


def _ranges(name: str, work: str, title: str, rows: Sequence[tuple[str, Result]]) -> Chart:
    values = [(label, result.client, dict(result.latency_ms)) for label, result in rows]
    size = (9.0, 1.8 + 0.36 * len(rows))
    said = f"{ABOUT[work].partition(';')[0].rstrip('.')}. Percentiles."
    return Chart(name, PREFIX + work, title, said, size, partial(draw.ranges, values))


SQLITE = (rates, times)
