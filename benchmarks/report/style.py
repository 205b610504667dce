"""How charts look: one colour for each client, light and dark, and files that are the same for the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

PNG_DPI = 160
BARE = {"Date": None, "Creator": None}


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of one ground. Files of the light one have no suffix."""

    name: str
    ground: str
    ink: str
    faint: str
    grid: str
    sync: str
    asynchronous: str
    uvloop: str
    other: str
    ceiling: str

    def colour(self, client: str) -> str:
        """Ours stand out, the others are alike; the same client has the same colour in every chart."""
        if client == "ceiling":
            return self.ceiling
        if client in ("sync", "eventbus-sync"):
            return self.sync
        if client in ("async", "eventbus-async"):
            return self.asynchronous
        return self.uvloop if client == "eventbus-async-uvloop" else self.other

    def marker(self, client: str) -> str:
        """Told apart without colours too."""
        return "s" if "async" in client else "o"


LIGHT = Theme(
    name="light", ground="#ffffff", ink="#1c1f24", faint="#5d6570", grid="#e3e6ea", ceiling="#1c1f24",
    sync="#1f6fb5", asynchronous="#d9600f", uvloop="#efa36b", other="#a9b0ba",
)  # fmt: skip
DARK = Theme(
    name="dark", ground="#15181d", ink="#e8eaed", faint="#a2a9b4", grid="#2c323a", ceiling="#e8eaed",
    sync="#5aaaf0", asynchronous="#f0883e", uvloop="#a85d2a", other="#5f6873",
)  # fmt: skip
THEMES = (LIGHT, DARK)

Draw = Callable[[Figure, Theme], None]


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture: its title says what is to be seen, ``about`` how it was measured."""

    name: str
    benchmark: str
    title: str
    about: str
    size: tuple[float, float]
    draw: Draw


def save(chart: Chart, theme: Theme, folder: Path) -> list[Path]:
    """Write the files of one chart in one theme."""
    # Text becomes outlines: it looks the same wherever it is opened, and nothing is loaded for it.
    with mpl.rc_context({"svg.hashsalt": chart.name, "svg.fonttype": "path", "font.size": 10.0}):
        figure = Figure(figsize=chart.size, facecolor=theme.ground, layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1, wspace=0.04)  # type: ignore[union-attr,call-arg]
        size = min(13.0, 100.0 * chart.size[0] / max(1, len(chart.title)))  # a long title is set smaller, never cut
        figure.suptitle(chart.title, x=0.012, ha="left", fontsize=size, fontweight="bold", color=theme.ink)
        figure.supxlabel(chart.about, x=0.012, ha="left", fontsize=8.5, color=theme.faint)
        chart.draw(figure, theme)
        if theme is not LIGHT:
            path = folder / f"{chart.name}-{theme.name}.svg"
            figure.savefig(path, format="svg", metadata=BARE)
            return [path]
        pixels, drawing = folder / f"{chart.name}.png", folder / f"{chart.name}.svg"
        figure.savefig(pixels, format="png", dpi=PNG_DPI, metadata={"Software": None})
        figure.savefig(drawing, format="svg", metadata=BARE)
        return [pixels, drawing]


def thousands(axis: object) -> None:
    """Thousands separators at an axis."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))  # type: ignore[attr-defined]


def dressed(axes: Axes, theme: Theme, *, grid: str = "y") -> None:
    """Nothing but what helps reading."""
    axes.set_facecolor(theme.ground)
    for side in ("top", "right", "left" if grid == "y" else "bottom"):
        axes.spines[side].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(theme.faint)
    axes.tick_params(colors=theme.faint, length=0, labelsize=9)
    axes.set_axisbelow(True)
    axes.grid(True, axis="x" if grid == "x" else "y", color=theme.grid, linewidth=0.8)
    axes.xaxis.label.set_color(theme.faint)
    axes.yaxis.label.set_color(theme.faint)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)


def from_zero(axes: Axes, highest: float, axis: str = "y") -> None:
    """An axis of amounts begins at zero, or lengths would lie."""
    if axis == "y":
        axes.set_ylim(0, highest * 1.12 or 1)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        thousands(axes.yaxis)
    else:
        axes.set_xlim(0, highest * 1.18 or 1)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        thousands(axes.xaxis)


def legend(axes: Axes, theme: Theme, clients: Sequence[str]) -> None:
    """Names of the lines."""
    if len(clients) > 1:
        axes.legend(frameon=False, labelcolor=theme.ink, fontsize=9, loc="best", handlelength=1.6)
