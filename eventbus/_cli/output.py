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


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    text = orjson.dumps(value, default=_default, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    click.echo(text.decode())


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
