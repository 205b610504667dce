"""The page: charts, all numbers, what they depend on and how they were measured. It loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from benchmarks.report.sqlite import about as about_sqlite
from benchmarks.runner import Result
from benchmarks.screen import COLUMNS, Column, milliseconds, used
from benchmarks.sqlite.targets import verdicts

if TYPE_CHECKING:
    from benchmarks.report.style import Chart

ABOUT = {
    "publish-confirm": "Events published and confirmed, by how many may be without their confirm at once (window).",
    "prefetch": "A backlog handled and acked, by how many deliveries may be unsettled at once (prefetch).",
    "rpc": "Requests and their answers, by how many are open at once.",
    "latency": "From the moment an event is due to be published to its handler's first line, at a fixed rate.",
    "fanout": "One event handled by many groups; the rate counts handled copies.",
    "memory": "Publish and handle over the in-memory transport: the cost of the bus without a broker.",
    "footprint": "Resident memory of the process while a long stream is published and handled.",
}

STYLE = """
:root { color-scheme: light dark;
  --ground: #fff; --ink: #1c1f24; --faint: #5d6570; --line: #e3e6ea; --stripe: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #15181d; --ink: #e8eaed; --faint: #a2a9b4; --line: #2c323a; --stripe: #1b1f25; }
}
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 72rem; padding: 1.5rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
p, li { max-width: 46rem; } .faint, figcaption { color: var(--faint); font-size: .9rem; }
nav a { margin-right: 1rem; } a { color: inherit; }
figure { margin: 1.2rem 0; } img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .8rem; text-align: right; white-space: nowrap; }
th { color: var(--faint); font-weight: 600; }
.words { text-align: left; white-space: normal; } tbody tr:nth-child(even) { background: var(--stripe); }
"""


def _percentile(name: str) -> Column:
    return Column(
        f"{name} ms", lambda result: milliseconds(result.latency_ms[name]) if name in result.latency_ms else ""
    )


def _megabytes(result: Result) -> str:
    values = list(result.rss_mb.values())
    return f"{values[0]:,.1f} to {values[-1]:,.1f}" if values else ""


_KNOWN = {column.title: column for column in COLUMNS}
TABLE = (
    *(_KNOWN[title] for title in ("client", "setting", "messages/s", "MB/s", "CPU us/msg", "of ceiling")),
    *(_percentile(name) for name in ("p50", "p90", "p99", "max")),
    Column("memory MB", _megabytes),
    Column("idle CPU s/minute", lambda result: "" if result.idle_cpu is None else f"{result.idle_cpu:.2f}"),
    Column("messages", lambda result: f"{result.messages:,}"),
    Column("samples", lambda result: f"{result.repeats}"),
)


def page(
    results: Sequence[Result], environment: Mapping[str, str], charts: Sequence[Chart], notes: Sequence[str]
) -> str:
    """The page as HTML."""
    names = list(dict.fromkeys(result.benchmark for result in results))
    sections = "".join(
        _section(name, [r for r in results if r.benchmark == name], [c for c in charts if c.benchmark == name])
        for name in names
    )
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in names)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>eventbus: benchmarks</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>eventbus: benchmarks</h1>\n<p>{_line(environment)}</p>\n<nav>{links}</nav>\n"
        f"{sections}{_targets(results)}{_notes(notes)}{_environment(environment)}{_method(results)}</body>\n</html>\n"
    )


def _line(environment: Mapping[str, str]) -> str:
    words = (f"{name} {value}" if name != "broker" else value for name, value in environment.items())
    return escape(", ".join(words))


def _anchor(name: str) -> str:
    """Names hold slashes only, and whatever a file read holds."""
    return escape("".join(letter if letter.isalnum() else "-" for letter in name))


def _section(name: str, results: Sequence[Result], charts: Sequence[Chart]) -> str:
    about = ABOUT.get(name, "The same work by several clients, each in a process of its own, in rounds.")
    if not name.startswith("peers/") and name not in ABOUT:
        about = about_sqlite(name)
    return (
        f'<section id="{_anchor(name)}">\n<h2>{escape(name)}</h2>\n<p>{escape(about)}</p>\n'
        f"{''.join(map(_figure, charts))}{_table(results)}</section>\n"
    )


def _figure(chart: Chart) -> str:
    name = escape(chart.name)
    width, height = (round(inches * 96) for inches in chart.size)
    return (
        f'<figure><picture><source srcset="{name}-dark.svg" media="(prefers-color-scheme: dark)">'
        f'<img src="{name}.svg" width="{width}" height="{height}" alt="{escape(chart.title)}"></picture>'
        f'<figcaption><a href="{name}.png">PNG</a>, <a href="{name}.svg">SVG</a></figcaption></figure>\n'
    )


def _table(results: Sequence[Result]) -> str:
    columns = used(TABLE, results)
    head = "".join(_cell("th", column, column.title) for column in columns)
    rows = ("".join(_cell("td", column, column.text(result)) for column in columns) for result in results)
    return _framed(head, rows)


def _cell(tag: str, column: Column, text: str) -> str:
    words = ' class="words"' if column.words else ""
    scope = ' scope="col"' if tag == "th" else ""
    return f"<{tag}{scope}{words}>{escape(text)}</{tag}>"


def _framed(head: str, rows: Iterable[str]) -> str:
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n'


def _targets(results: Sequence[Result]) -> str:
    judged = verdicts(results)
    if not judged:
        return ""
    return f'<section id="targets">\n<h2>Targets</h2>\n{_list(map(str, judged))}</section>\n'


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return f"<section>\n<h2>Not measured</h2>\n{_list(notes)}</section>\n"


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>\n" for line in lines) + "</ul>"


def _environment(environment: Mapping[str, str]) -> str:
    head = '<th scope="col" class="words">what</th><th scope="col" class="words">which</th>'
    rows = (
        f'<td class="words">{escape(name)}</td><td class="words">{escape(value)}</td>'
        for name, value in environment.items()
    )
    return f'<section id="environment">\n<h2>Measured with</h2>\n{_framed(head, rows)}</section>\n'


def _method(results: Sequence[Result]) -> str:
    repeats = sorted({result.repeats for result in results}) or [0]
    often = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    points = [
        f"Every number is the median of {often} samples, taken after a smaller one for warming up. Percentiles are "
        "those of all samples together.",
        "CPU is the processor time of the client's process, user and system, all threads; that of a broker in another "
        "process is not in it. Over memory:// the broker is in the process, and counts.",
        "Connecting and declaring are not in the times.",
    ]
    if any("latency" in result.benchmark for result in results):
        points.append(
            "At a fixed rate, an event's latency runs from the moment it was due, so that one slow event does not hide "
            "the waiting of those behind it."
        )
    if any(result.benchmark.startswith("peers/") for result in results):
        points.append(
            "Ceiling: a plain socket that writes and reads the same bytes with no work for events, measured in the "
            "same rounds. Each client runs once in every round, in an order that changes."
        )
    if any(result.benchmark.startswith("sqlite/") for result in results):
        points.append(
            "SQLite: the ceiling is a bare loop of sqlite3, measured in the same rounds: one INSERT and its commit, "
            "executemany in transactions of 1,000, and a DELETE that takes 200."
        )
    return f'<section id="method">\n<h2>How it was measured</h2>\n{_list(points)}</section>\n'
