"""The results as a page with charts: ``index.html`` and, of each chart, a PNG and two SVG (light and dark)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report.page import page
from benchmarks.runner import Result

__all__ = ["write_report"]


def write_report(
    results: Sequence[Result], environment: Mapping[str, str], folder: Path, *, notes: Sequence[str] = ()
) -> list[Path]:
    """Write everything into ``folder``, which is made where it does not exist; gives the files, the page first.

    ``notes`` are lines for the page, such as clients that could not take part.

    :raises ModuleNotFoundError: matplotlib is not installed.
    """
    from benchmarks.report.charts import charts
    from benchmarks.report.style import THEMES, save

    folder.mkdir(parents=True, exist_ok=True)
    drawn = charts(results)
    written = [folder / "index.html"]
    for chart in drawn:
        for theme in THEMES:
            written += save(chart, theme, folder)
    written[0].write_text(page(results, environment, drawn, notes), encoding="utf-8")
    return written
