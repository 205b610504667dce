"""The four kinds of pictures: lines, groups of bars, ranges of latencies, bars of clients beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.report.style import Theme, dressed, from_zero, legend
from benchmarks.runner import Result
from benchmarks.screen import milliseconds

RANKS = {"p50": "o", "p90": "D", "p99": "s", "max": "|"}
LABELS = {"p50": ((-7, 0), "right", "center"), "p99": ((0, 6), "center", "bottom"), "max": ((6, 0), "left", "center")}
"""Where the numbers stand: apart from each other also when the values are close."""


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one client, in order."""

    client: str
    points: Sequence[tuple[str | float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the pictures beside each other."""

    title: str
    series: Sequence[Series]


def lines(panels: Sequence[Panel], x: str, y: str, log: bool, figure: Figure, theme: Theme) -> None:
    """Lines of each client; panels with their own scale. Without ``log``, the values of x stand at equal distances."""
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        labels = list(dict.fromkeys(value for series in panel.series for value, _ in series.points))
        for series in panel.series:
            colour, marker = theme.colour(series.client), theme.marker(series.client)
            places = [float(value) if log else labels.index(value) for value, _ in series.points]
            values = [value for _, value in series.points]
            axes.plot(places, values, color=colour, marker=marker, markersize=5, linewidth=2, label=series.client)
        if log:
            axes.set_xscale("log")
        ticks = [float(label) for label in labels] if log else [float(n) for n in range(len(labels))]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([value if isinstance(value, str) else f"{value:,.0f}" for value in labels])
        axes.set_xlabel(x)
        if number == 0:
            axes.set_ylabel(y)
        if panel.title:
            axes.set_title(panel.title, loc="left", fontsize=10, color=theme.ink)
        from_zero(axes, max(value for series in panel.series for _, value in series.points))
        dressed(axes, theme)
        if number == 0:
            legend(axes, theme, [series.client for series in panel.series])


def groups(all_series: Sequence[Series], unit: str, figure: Figure, theme: Theme) -> None:
    """Horizontal bars, one group for each label, one bar in it for each client."""
    axes = figure.add_subplot()
    labels = list(dict.fromkeys(label for series in all_series for label, _ in series.points))
    height = 0.76 / len(all_series)
    for number, series in enumerate(all_series):
        places = [labels.index(label) + (number - (len(all_series) - 1) / 2) * height for label, _ in series.points]
        values = [value for _, value in series.points]
        axes.barh(places, values, height * 0.9, color=theme.colour(series.client), label=series.client)
        for place, value in zip(places, values, strict=True):
            axes.annotate(f"{value:,.0f}", (value, place), (4, 0), textcoords="offset points",
                          va="center", fontsize=8.5, color=theme.ink)  # fmt: skip
    axes.set_yticks(range(len(labels)), [str(label) for label in labels])
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    from_zero(axes, max(value for series in all_series for _, value in series.points), "x")
    dressed(axes, theme, grid="x")
    axes.tick_params(axis="y", labelcolor=theme.ink)
    if len(all_series) > 1:
        figure.legend(frameon=False, labelcolor=theme.ink, fontsize=9, loc="outside right upper")


def ranges(rows: Sequence[tuple[str, str, Mapping[str, float]]], figure: Figure, theme: Theme) -> None:
    """Percentiles of each row on one line: median to maximum, milliseconds on a logarithmic axis."""
    axes = figure.add_subplot()
    for place, (_, client, latencies) in enumerate(rows):
        colour = theme.colour(client)
        values = [max(latencies[rank], 1e-3) for rank in RANKS if rank in latencies]  # zero has no logarithm
        axes.plot([values[0], values[-1]], [place, place], color=colour, linewidth=1.5, alpha=0.45, zorder=1)
        for rank, value in zip((rank for rank in RANKS if rank in latencies), values, strict=True):
            hollow = rank == "p90"
            axes.plot([value], [place], RANKS[rank], color=colour, markersize=9 if rank == "max" else 6.5,
                      markerfacecolor=theme.ground if hollow else colour, zorder=2)  # fmt: skip
            if rank in LABELS:
                offset, side, height = LABELS[rank]
                axes.annotate(milliseconds(latencies[rank]), (value, place), offset, textcoords="offset points",
                              ha=side, va=height, fontsize=8, color=theme.ink)  # fmt: skip
    for rank, marker in RANKS.items():
        axes.plot([], [], marker, color=theme.faint, label=rank, markersize=6.5,
                  markerfacecolor=theme.ground if rank == "p90" else theme.faint)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.75)
    axes.margins(x=0.09)
    axes.set_xlabel("milliseconds (logarithmic)")
    dressed(axes, theme, grid="x")
    axes.tick_params(axis="y", labelcolor=theme.ink)
    figure.legend(frameon=False, labelcolor=theme.ink, fontsize=9, loc="outside right upper")


def bars(
    results: Sequence[Result], ceiling: Result | None, figure: Figure, theme: Theme, *, called: str = "plain socket"
) -> None:
    """Rate and processor time of each client, slowest at the bottom; the ceiling as a line through both."""
    names = [result.client for result in results]
    sides = (
        ("messages/s (more is better)", [result.messages_per_second for result in results],
         ceiling.messages_per_second if ceiling else None),
        ("CPU of the client, us/message (less is better)", [result.cpu_us_per_message for result in results],
         ceiling.cpu_us_per_message if ceiling else None),
    )  # fmt: skip
    for number, (unit, values, line) in enumerate(sides):
        axes = figure.add_subplot(1, 2, number + 1)
        axes.barh(range(len(names)), values, 0.68, color=[theme.colour(name) for name in names])
        for place, value in enumerate(values):
            text = f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
            box = {"facecolor": theme.ground, "edgecolor": "none", "pad": 0.8}  # over the ceiling's line
            axes.annotate(text, (value, place), (4, 0), textcoords="offset points", va="center", fontsize=8.5,
                          color=theme.ink, bbox=box, zorder=4)  # fmt: skip
        if line is not None:
            text = f"{line:,.0f}" if line >= 100 else f"{line:,.1f}"
            axes.axvline(line, color=theme.ceiling, linewidth=1.2, linestyle=(0, (4, 3)), zorder=3)
            axes.annotate(f"{called}: {text}", (line, 1.0), (0, 3), xycoords=("data", "axes fraction"),
                          textcoords="offset points", ha="center", fontsize=8.5, color=theme.ink,
                          annotation_clip=False)  # fmt: skip
        axes.set_yticks(range(len(names)), names if number == 0 else [""] * len(names))
        from_zero(axes, max([*values, line or 0.0]), "x")
        axes.set_xlabel(unit)
        dressed(axes, theme, grid="x")
        axes.tick_params(axis="y", labelcolor=theme.ink)
        for label in axes.get_yticklabels():
            label.set_fontweight("bold" if label.get_text().startswith("eventbus") else "normal")
