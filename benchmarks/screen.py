"""Results in the terminal: a table that grows row by row, and what is being measured meanwhile.

Where stdout is no terminal, rows are plain aligned text with every column, to be read by other programs. Without
rich everything is plain and there is no progress display.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from benchmarks.runner import Result, Settings

if TYPE_CHECKING:
    from rich.console import Console

LARGE_BODY = 4096
"""From here on, bytes a second say more than messages a second do."""
WIDTHS = {"benchmark": 18, "client": 22, "setting": 48}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table of results; the text is empty where a result has no such number."""

    title: str
    text: Callable[[Result], str]
    words: bool = False
    """Set flush left."""

    @property
    def width(self) -> int:
        """In characters, in a table that grows row by row."""
        return WIDTHS.get(self.title, max(9, len(self.title)))

    def fitted(self, text: str) -> str:
        """The text at the column's width, or wider where it does not fit."""
        return f"{text:<{self.width}}" if self.words else f"{text:>{self.width}}"


def _setting(result: Result) -> str:
    return setting_text(result.settings)


def _rate(result: Result) -> str:
    return rate_text(result.messages_per_second)


def _megabytes(result: Result) -> str:
    if result.body_bytes is None or result.body_bytes < LARGE_BODY:
        return ""
    return f"{result.messages_per_second * result.body_bytes / 1e6:,.1f}"


def _cpu(result: Result) -> str:
    return f"{result.cpu_us_per_message:,.1f}"


def _ratio(result: Result) -> str:
    return "" if result.of_ceiling is None else f"{result.of_ceiling:.0%}"


def _latency(name: str) -> Callable[[Result], str]:
    def text(result: Result) -> str:
        value = result.latency_ms.get(name)
        return "" if value is None else milliseconds(value)

    return text


COLUMNS = (
    Column("benchmark", lambda result: result.benchmark, words=True),
    Column("client", lambda result: result.client, words=True),
    Column("setting", _setting, words=True),
    Column("messages/s", _rate),
    Column("MB/s", _megabytes),
    Column("CPU us/msg", _cpu),
    Column("p50 ms", _latency("p50")),
    Column("p99 ms", _latency("p99")),
    Column("of ceiling", _ratio),
)


def setting_text(settings: Settings) -> str:
    """What was varied, in words: ``window 100, 4 KiB, persistent, quorum``."""
    return ", ".join(words for name, value in settings.items() if (words := _one_setting(name, value)))


def _one_setting(name: str, value: str | float) -> str:
    if name == "body":
        return size_text(int(value))
    if name == "tls":
        return "TLS" if value == "yes" else ""
    if name in ("delivery", "queue"):
        return str(value)
    return f"{name} {value}/s" if name == "rate" else f"{name} {value}"


def size_text(size: int) -> str:
    """Bytes in the largest unit that they are a whole number of: ``4 KiB``."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


def rate_text(rate: float) -> str:
    """Messages a second, with a thousands separator."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def milliseconds(value: float) -> str:
    """Three figures are enough: what lies behind them is noise."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def used(columns: Sequence[Column], results: Sequence[Result]) -> list[Column]:
    """The columns of which there is anything to show."""
    return [column for column in columns if any(column.text(result) for result in results)]


class Screen:
    """Shows results as they come, and implements :class:`benchmarks.runner.Progress`.

    ``total`` is how many settings will be measured, where that is known.
    """

    def __init__(self, *, out: TextIO | None = None, err: TextIO | None = None, total: int | None = None) -> None:
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._total, self._done, self._began = total, 0, time.monotonic()
        self._rich = _console(self._out)
        self._progress = _console(self._err)
        self._section: str | None = None
        self._columns: list[Column] = list(COLUMNS)

    def show(self, result: Result) -> None:
        """One row; above the first, and on a terminal above the first of each benchmark, the head."""
        begins = result.benchmark != self._section if self._rich else self._section is None
        self._section = result.benchmark
        if begins:
            self._head(result)
        cells = [column.fitted(column.text(result) or "-") for column in self._columns]
        if self._rich is None:
            print("  ".join(cells).rstrip(), file=self._out, flush=True)
        else:
            styles = {"client": _style(result.client), "messages/s": "bold"}
            self._styled(cells, [styles.get(column.title, "") for column in self._columns])

    def note(self, text: str) -> None:
        """A line that is no result."""
        if self._rich is None:
            print(text, file=self._out, flush=True)
        else:
            self._rich.print(text, markup=False, highlight=False, style="dim")

    def _head(self, result: Result) -> None:
        if self._rich is not None:
            # The first result tells which columns the benchmark fills; the name stands in the line above.
            self._columns = used(COLUMNS[1:], [result])
            self._rich.print()
            self._rich.print(result.benchmark, style="bold", highlight=False, markup=False)
        titles = [column.fitted(column.title) for column in self._columns]
        if self._rich is None:
            print("  ".join(titles).rstrip(), file=self._out, flush=True)
        else:
            self._styled(titles, ["dim"] * len(titles))

    def _styled(self, cells: Sequence[str], styles: Sequence[str]) -> None:
        from rich.text import Text

        assert self._rich is not None
        line = Text("  ").join(Text(cell, style) for cell, style in zip(cells, styles, strict=True))
        line.rstrip()
        self._rich.print(line, soft_wrap=True)

    @contextmanager
    def measuring(self, benchmark: str, client: str, settings: Settings) -> Iterator[None]:
        """Show what is being measured, on stderr, for as long as it is."""
        try:
            if self._progress is None:
                yield
            else:
                with self._display(self._progress, f"{benchmark}: {client}: {setting_text(settings)}"):
                    yield
        finally:
            self._done += 1

    @contextmanager
    def _display(self, console: Console, text: str) -> Iterator[None]:
        from rich.markup import escape
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        known = () if self._total is None else (BarColumn(bar_width=20), MofNCompleteColumn())
        elapsed = int(time.monotonic() - self._began)
        columns = (
            SpinnerColumn(),
            *known,
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn(f"(began {elapsed // 60}:{elapsed % 60:02} ago)", style="dim"),
        )
        # Gone before the result is printed, so that the two never write over each other; stdout stays untouched.
        with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as shown:
            shown.add_task(escape(text), total=self._total, completed=self._done)
            yield


def _style(client: str) -> str:
    return "cyan" if "async" in client else "blue" if "sync" in client or "eventbus" in client else ""


def _console(stream: TextIO) -> Console | None:
    """For a terminal that shows more than plain text."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(file=stream)
    return None if console.is_dumb_terminal or not console.is_terminal else console
