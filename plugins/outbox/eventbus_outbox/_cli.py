"""``eventbus outbox``: relay what is in an outbox, and look after it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from eventbus import EventBusError
from eventbus.cli import (
    DONE,
    FAILED,
    apps_argument,
    from_environment,
    json_option,
    load_bus,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from eventbus_outbox import Failure
    from eventbus_outbox.sql import Dialect, Steps

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

DATABASE = "EVENTBUS_DATABASE"


def _database_of(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str:
    url = value or from_environment(DATABASE)
    if url is None:
        raise click.UsageError(f"no database: give --database, or set {DATABASE} (or {DATABASE}_FILE)", ctx)
    return url


def database_options() -> Callable[[F], F]:
    """``--database`` and ``--table``."""
    url = click.option(
        "--database",
        metavar="URL",
        callback=_database_of,
        allow_from_autoenv=False,
        help=f"Its URL as SQLAlchemy writes it; default: {DATABASE}. Others on this machine can read command lines, so "
        "prefer the variable for a URL with a password.",
    )
    table = click.option("--table", default="eventbus_outbox", show_default=True, help="The outbox's table.")
    return lambda function: url(table(function))


@click.group(
    epilog="\b\nExamples:\n  eventbus outbox create --database postgresql+psycopg://app@db.example/shop\n"
    "  eventbus outbox relay shop.orders:bus --database postgresql+psycopg://app@db.example/shop\n"
    "  eventbus outbox status --max-age 60 || mail -s 'the outbox waits' ops@example.com"
)
def outbox() -> None:
    """Relay the events that services have stored in their database, and look after them."""


@outbox.command(epilog="\b\nExamples:\n  eventbus outbox relay shop.orders:bus --database sqlite:///shop.db")
@apps_argument()
@database_options()
@click.option("--batch", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Most rows at once.")
@click.option("--lease", type=float, default=60.0, show_default=True, help="Seconds that a claim of rows holds.")
@click.option("--poll", type=float, default=1.0, show_default=True, help="Longest pause between two looks, in seconds.")
@click.option(
    "--on-set-aside",
    type=click.Choice(["stop-key", "go-on"]),
    default="stop-key",
    show_default=True,
    help="Whether later messages of its key wait for one that was set aside.",
)
def relay(apps: tuple[str, ...], database: str, table: str, on_set_aside: Any, **options: Any) -> int:
    """Publish over APP, a bus as package.module:bus, until SIGTERM or Ctrl-C.

    Any number of relays may work on one outbox. The exit code is 0 when everything that was under way had its outcome
    within the bus's grace period. Subscriptions of the bus are not served.
    """
    from eventbus import AsyncEventBus, EventBus, run
    from eventbus_outbox import AsyncRelay, Relay

    if len(apps) != 1:
        raise click.UsageError("a relay publishes over one bus")
    logger = logging.getLogger("eventbus.outbox")
    logger.setLevel(min(logging.INFO, logging.getLogger().level))
    bus = load_bus(apps[0])
    settings = {**options, "table": table, "on_set_aside": on_set_aside}
    if isinstance(bus, EventBus):
        clean = Relay(bus, database, **settings).run()
    else:
        assert isinstance(bus, AsyncEventBus)
        clean = run(_relay_async(partial(AsyncRelay, bus, database, **settings)))
    logger.info("outbox: ended%s", "" if clean else ", but not all that was under way had its outcome")
    return DONE if clean else FAILED


async def _relay_async(make: Callable[[], Any]) -> bool:
    return bool(await make().run())


@outbox.command(epilog="\b\nExamples:\n  eventbus outbox status\n  eventbus outbox status --max-age 60 --json")
@database_options()
@click.option("--max-age", type=float, metavar="S", help="Exit with 1 if the oldest waits longer, or any is set aside.")
@json_option()
def status(database: str, table: str, max_age: float | None, as_json: bool) -> int:
    """Show how much waits, for how long, and how much was set aside."""
    from eventbus_outbox._table import OutboxTable

    lag = _run(database, OutboxTable(table).lag)
    if as_json:
        print_json(lag)
    else:
        oldest = f", the oldest for {lag.age:.1f} s" if lag.rows else ""
        click.echo(f"{lag.rows} waiting{oldest}; {lag.set_aside} set aside")
    return FAILED if max_age is not None and (lag.age > max_age or lag.set_aside) else DONE


@outbox.command(epilog="\b\nExamples:\n  eventbus outbox failures\n  eventbus outbox failures --limit 1000 --json")
@database_options()
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Most to show.")
@json_option()
def failures(database: str, table: str, limit: int, as_json: bool) -> None:
    """Show the messages that could not be published so far, and why."""
    from eventbus_outbox._table import OutboxTable

    found = _run(database, partial(OutboxTable(table).failures, limit=limit))
    if as_json:
        print_json(found)
    else:
        print_table(["row", "message", "key", "attempts", "age", "", "error"], [_cells(each) for each in found])


def _cells(failure: Failure) -> list[str]:
    from rich.markup import escape

    return [
        str(failure.id),
        escape(failure.message_id),
        escape(failure.key or ""),
        str(failure.attempts),
        f"{failure.age:.0f} s",
        "[red]set aside[/red]" if failure.set_aside else "tried again",
        escape(failure.error),
    ]


def _ids_argument() -> Callable[[F], F]:
    ids = click.argument("ids", metavar="[ROW]...", nargs=-1, type=int)
    everything = click.option("--all", "everything", is_flag=True, help="All that are set aside.")
    return lambda function: ids(everything(function))


def _chosen(ids: tuple[int, ...], everything: bool) -> tuple[int, ...] | None:
    if bool(ids) == everything:
        raise click.UsageError("name rows, as the command failures shows them, or give --all")
    return None if everything else ids


@outbox.command(epilog="\b\nExamples:\n  eventbus outbox retry 4711\n  eventbus outbox retry --all")
@_ids_argument()
@database_options()
def retry(ids: tuple[int, ...], everything: bool, database: str, table: str) -> int:
    """Have messages that were set aside tried again."""
    return _change("retry", ids, everything, database, table, "will be tried again")


@outbox.command(epilog="\b\nExamples:\n  eventbus outbox discard 4711")
@_ids_argument()
@database_options()
def discard(ids: tuple[int, ...], everything: bool, database: str, table: str) -> int:
    """Delete messages that were set aside: nobody will get them."""
    return _change("discard", ids, everything, database, table, "deleted")


def _change(
    what: Literal["retry", "discard"], ids: tuple[int, ...], everything: bool, database: str, table: str, done: str
) -> int:
    from eventbus_outbox._table import OutboxTable

    chosen = _chosen(ids, everything)
    count = _run(database, partial(getattr(OutboxTable(table), what), ids=chosen))
    click.echo(f"{count} {done}")
    return DONE if chosen is None or count == len(set(chosen)) else FAILED


@outbox.command(
    epilog="\b\nExamples:\n  eventbus outbox create --database sqlite:///shop.db\n"
    "  eventbus outbox create --print > migration.sql"
)
@database_options()
@click.option("--print", "show", is_flag=True, help="Print the SQL, for migrations, and do nothing.")
def create(database: str, table: str, show: bool) -> None:
    """Make the table, if there is none."""
    from eventbus_outbox._table import OutboxTable

    made = OutboxTable(table)
    if show:
        from sqlalchemy import make_url

        from eventbus_outbox.sql import dialect_named

        for sql in made.definition(dialect_named(make_url(database).get_backend_name())):
            click.echo(f"{sql};")
    else:
        _run(database, made.create)


def _run(url: str, steps: Callable[[Dialect], Steps[T]]) -> T:
    """All steps in one transaction, whichever kind of driver the URL names."""
    from eventbus_outbox.sql import database, is_for_asyncio, quiet_text, run

    try:
        if is_for_asyncio(url):
            import asyncio

            return asyncio.run(_run_async(url, steps))
        source = database(url)
        try:
            return run(source, steps)
        finally:
            source.close()
    except (EventBusError, click.ClickException):
        raise
    except Exception as error:
        raise click.ClickException(f"the database: {quiet_text(error)}") from error


async def _run_async(url: str, steps: Callable[[Dialect], Steps[T]]) -> T:
    from eventbus_outbox.sql import async_database, run_async

    source = async_database(url)
    try:
        return await run_async(source, steps)
    finally:
        await source.close()
