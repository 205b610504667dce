"""Which charts the results give, and what they say. Drawing is in :mod:`benchmarks.report.draw`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from benchmarks.report import draw
from benchmarks.report.draw import Panel, Series
from benchmarks.report.sqlite import SQLITE
from benchmarks.report.style import Chart
from benchmarks.runner import Result
from benchmarks.screen import milliseconds, rate_text, setting_text, size_text

CEILING = "ceiling"
USUAL = {"delivery": "persistent", "queue": "quorum", "tls": "no"}


def charts(results: Sequence[Result]) -> list[Chart]:
    """All that there are results for."""
    makers = (_window, _variants, _prefetch, _latency, _rpc, _fanout, _footprint, _peers, *SQLITE)
    return [chart for make in makers for chart in make(results)]


def _of(results: Iterable[Result], benchmark: str) -> list[Result]:
    return [result for result in results if result.benchmark == benchmark]


def _unique(values: Iterable[str | float]) -> list[str | float]:
    return list(dict.fromkeys(values))


def _clients(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(result.client for result in results))


def _series(results: Sequence[Result], setting: str) -> list[Series]:
    """One line for each client: rate by the setting, in the order measured."""
    return [
        Series(client, [(r.settings[setting], r.messages_per_second) for r in results if r.client == client])
        for client in _clients(results)
    ]


def _about(results: Sequence[Result], text: str) -> str:
    repeats = sorted({result.repeats for result in results})
    often = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    if repeats[-1] == 1:
        return f"{text} One sample."
    kind = "Percentiles" if any(result.latency_ms for result in results) else "Medians"
    return f"{text} {kind} of {often} samples."


def _times(factor: float) -> str:
    """How much more, without a precision that the numbers do not have."""
    return f"{factor:,.0f} times" if factor >= 10 else f"{factor:.1f} times"


def _grows(results: Sequence[Result], setting: str) -> tuple[str, str | float, str | float, float] | None:
    """By how much the rate of the first client grows from its first value of the setting to its best one."""
    mine = [result for result in results if result.client == results[0].client]
    best = max(mine, key=lambda result: result.messages_per_second)
    if best is mine[0] or mine[0].messages_per_second <= 0:
        return None
    growth = best.messages_per_second / mine[0].messages_per_second
    return mine[0].client, mine[0].settings[setting], best.settings[setting], growth


def _window(results: Sequence[Result]) -> Iterator[Chart]:
    found = [
        result
        for result in _of(results, "publish-confirm")
        if all(result.settings.get(name, usual) == usual for name, usual in USUAL.items())
    ]
    bodies = _unique(result.settings.get("body", 0) for result in found)
    panels = []
    for body in bodies:
        part = [result for result in found if result.settings.get("body", 0) == body]
        if len({result.settings["window"] for result in part}) > 1:
            panels.append(Panel(f"body {size_text(int(body))}" if body else "", _series(part, "window")))
    if not panels:
        return
    grows = _grows([result for result in found if result.settings.get("body", 0) == bodies[0]], "window")
    title = "Confirmed publishes by window"
    if grows:
        title += f": {_times(grows[3])} the rate with {_plain(grows[2])} instead of {_plain(grows[1])} ({grows[0]})"
    about = _about(found, "Persistent events to a quorum queue; window: most events without their confirm.")
    about += " Each panel has its own scale." if len(panels) > 1 else ""
    yield _lines("publish-window", "publish-confirm", title, about, panels, "window", "messages/s")


def _variants(results: Sequence[Result]) -> Iterator[Chart]:
    found = _of(results, "publish-confirm")
    if not found:
        return
    widest = max(int(result.settings["window"]) for result in found)
    smallest = min(int(result.settings.get("body", 0)) for result in found)
    same = [r for r in found if r.settings["window"] == widest and r.settings.get("body", 0) == smallest]
    labels = _unique(_kind(result) for result in same)
    if len(labels) < 2:
        return
    values = [
        Series(client, [(_kind(r), r.messages_per_second) for r in same if r.client == client])
        for client in _clients(same)
    ]
    about = _about(same, f"Window {widest:,}, body {size_text(smallest)}.")
    size = (9.0, 1.5 + 0.62 * len(labels))
    title = "What delivery, queue type and TLS change"
    yield Chart("publish-kinds", "publish-confirm", title, about, size, partial(draw.groups, values, "messages/s"))


def _kind(result: Result) -> str:
    return setting_text({name: result.settings[name] for name in USUAL if name in result.settings})


def _prefetch(results: Sequence[Result]) -> Iterator[Chart]:
    found = _of(results, "prefetch")
    panels = []
    for handler in _unique(result.settings.get("handler", "") for result in found):
        part = [result for result in found if result.settings.get("handler", "") == handler]
        name = {"at once": "handler returns at once", "": ""}.get(str(handler), f"handler {handler}")
        panels.append(Panel(name, _series(part, "prefetch")))
    if not panels:
        return
    grows = _grows([r for r in found if r.settings.get("handler") == found[0].settings.get("handler")], "prefetch")
    title = "Handled events by prefetch"
    if grows:
        title += f": {_times(grows[3])} the rate with {_plain(grows[2])} instead of {_plain(grows[1])} ({grows[0]})"
    about = _about(found, "A backlog in a quorum queue, handled and acked; prefetch: most unsettled deliveries.")
    yield _lines("prefetch", "prefetch", title, about, panels, "prefetch", "messages/s", log=False)


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,.0f}"


def _latency(results: Sequence[Result]) -> Iterator[Chart]:
    found = [result for result in _of(results, "latency") if result.latency_ms]
    if not found:
        return
    worst = max(found, key=lambda result: result.latency_ms.get("p99", 0.0))
    longest = milliseconds(worst.latency_ms["p99"])
    title = f"Publish to handler: p99 is at most {longest} ms ({worst.client} at {worst.settings['rate']:,}/s)"
    about = _about(found, "From the moment an event is due to its handler's first line; waiting to be sent counts.")
    rows = [(f"{int(r.settings['rate']):,}/s  {r.client}", r) for r in found]
    yield _ranges("latency", "latency", title, about, rows)


def _rpc(results: Sequence[Result]) -> Iterator[Chart]:
    found = [result for result in _of(results, "rpc") if result.latency_ms]
    if not found:
        return
    best = max(found, key=lambda result: result.messages_per_second)
    where = f"{best.client}, {setting_text(best.settings)}"
    title = f"Requests: up to {rate_text(best.messages_per_second)} answers/s ({where})"
    rows = [(f"{r.settings.get('in flight', '')} in flight  {r.client}", r) for r in found]
    about = _about(found, "From a request to its answer; both sides in one process.")
    yield _ranges("rpc", "rpc", title, about, rows)


def _ranges(name: str, benchmark: str, title: str, about: str, rows: Sequence[tuple[str, Result]]) -> Chart:
    values = [(label, result.client, dict(result.latency_ms)) for label, result in rows]
    return Chart(name, benchmark, title, about, (9.0, 1.8 + 0.36 * len(rows)), partial(draw.ranges, values))


def _fanout(results: Sequence[Result]) -> Iterator[Chart]:
    found = _of(results, "fanout")
    if not found:
        return
    best = max(found, key=lambda result: result.messages_per_second)
    title = f"Fan-out: up to {rate_text(best.messages_per_second)} copies/s handled ({best.client})"
    about = _about(found, "Every event goes to each group; the rate counts handled copies.")
    yield _lines("fanout", "fanout", title, about, [Panel("", _series(found, "groups"))], "groups", "copies/s")


def _footprint(results: Sequence[Result]) -> Iterator[Chart]:
    found = [result for result in _of(results, "footprint") if result.rss_mb]
    if not found:
        return
    series = [Series(r.client, [(label, value) for label, value in r.rss_mb.items()]) for r in found]
    growth = max(list(r.rss_mb.values())[-1] - next(iter(r.rss_mb.values())) for r in found)
    title = f"Memory while {found[0].messages:,} events pass: {growth:+.1f} MB from the first tenth to the last"
    about = "Resident set of the process, publisher and subscriber on one bus."
    yield _lines("footprint", "footprint", title, about, [Panel("", series)], "passed", "MB", log=False)


def _peers(results: Sequence[Result]) -> Iterator[Chart]:
    works = _unique(r.benchmark for r in results if r.benchmark.startswith("peers/"))
    for benchmark in map(str, works):
        found = _of(results, benchmark)
        ceiling = next((result for result in found if result.client == CEILING), None)
        rest = sorted((r for r in found if r.client != CEILING), key=lambda result: result.messages_per_second)
        if not rest:
            continue
        work = benchmark.removeprefix("peers/")
        title = f"Clients beside each other: {work.replace('-', ' ')}"
        if ceiling is not None and ceiling.messages_per_second:
            ours = [r for r in rest if r.client.startswith("eventbus")]
            if ours:
                part = ours[-1].of_ceiling or ours[-1].messages_per_second / ceiling.messages_per_second
                title += f"; {ours[-1].client} reaches {part:.0%} of a plain socket"
        about = _about(found, f"{setting_text(rest[-1].settings)}. Every client in a process of its own.")
        about = about[0].upper() + about[1:]
        size = (10.0, 1.9 + 0.34 * len(rest))
        name = "".join(letter if letter.isalnum() else "-" for letter in benchmark)  # it becomes a file
        yield Chart(name, benchmark, title, about, size, partial(draw.bars, rest, ceiling))


def _lines(
    name: str, benchmark: str, title: str, about: str, panels: list[Panel], x: str, y: str, *, log: bool = True
) -> Chart:
    size = (max(8.5, 3.7 * len(panels)), 4.3)
    return Chart(name, benchmark, title, about, size, partial(draw.lines, panels, x, y, log))
