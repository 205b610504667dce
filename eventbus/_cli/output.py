"""What commands print: tables for people, one JSON document for machines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])


def json_option() -> Callable[[F], F]:
    """``--json``: the command's parameter is ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any, *, line: bool = False) -> None:
    """One JSON document on standard output; with ``line`` in a line."""
    option = orjson.OPT_NON_STR_KEYS if line else orjson.OPT_NON_STR_KEYS | orjson.OPT_INDENT_2
    click.echo(printable_json(orjson.dumps(value, default=_default, option=option).decode()))


def printable(text: str) -> str:
    """The text in a line, without what a terminal would act on: strangers wrote it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def printable_json(text: str) -> str:
    """JSON that means the same, without what a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _json_escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _default(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def console(*, err: bool = False) -> Console:
    """A rich console; plain text where the output is no terminal."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    # Nobody has a width who reads it with a program.
    return Console(stderr=err, highlight=False, width=None if stream.isatty() else 200)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """A table for people."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text.from_markup(cell) for cell in row))
    console().print(table)
