"""How far a long command has come, told to a person at the terminal, and to anybody when it ends too soon."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

PROGRESS_SECONDS = 0.2


@contextmanager
def progress(what: str) -> Iterator[Callable[[], None]]:
    """Count what has been done, at every call of what this gives."""
    done, told, shown = 0, 0.0, sys.stderr.isatty()

    def one_more() -> None:
        nonlocal done, told
        done += 1
        if shown and time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            click.echo(f"\r{done} {what} ", err=True, nl=False)

    try:
        yield one_more
    except BaseException:
        click.echo(f"\r{done} {what} before this ended; the others are where they were", err=True)
        raise
    if told:
        click.echo("\r", err=True, nl=False)
