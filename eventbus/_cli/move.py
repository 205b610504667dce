"""``eventbus move``: what waits in queues of one broker goes to another, confirmed there before it is removed here."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventbus._cli import exits
from eventbus._cli.output import json_option, print_json, print_table, printable
from eventbus._cli.progress import progress
from eventbus._cli.settings import app_option

if TYPE_CHECKING:
    from eventbus.moving import Move, MoveReport


class Url(click.ParamType[str]):
    """A broker's URL, or ``@FILE`` with the URL in it: a command line is no place for a password."""

    name = "url"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The URL; a usage error where the file cannot be read."""
        if not value.startswith("@"):
            return value
        try:
            return Path(value[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.fail(f"the file {value[1:]} cannot be read: {error}", param, ctx)


@click.command(
    epilog="\b\nExamples:\n  eventbus move sqlite:///bus.db @broker-url --group emails --dry-run\n"
    "  eventbus move sqlite:///bus.db amqp://localhost/shop --group emails\n"
    "  eventbus move sqlite:///bus.db @broker-url --app shop.emails:bus --follow\n"
    "  eventbus move amqp://old/ amqp://new/ --queue emails.customers.registered --rate 500"
)
@click.argument("source", type=Url())
@click.argument("destination", type=Url())
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="This queue; several times for several.")
@click.option("--group", metavar="NAME", help="The queues of this group: the first part of their names.")
@app_option()
@click.option("--dead-letters", is_flag=True, help="The dead-letter queues beside them, too.")
@click.option("--scheduled", is_flag=True, help="Delayed messages that no queue has yet, too, of all groups.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many messages.")
@click.option(
    "--rate", type=click.FloatRange(0), default=0, show_default=True, metavar="N",
    help="At most so many a second; 0 is as fast as it goes.",
)  # fmt: skip
@click.option(
    "--window", type=click.IntRange(1), default=200, show_default=True, metavar="N", help="Most messages under way."
)
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, metavar="S",
    help="Seconds to connect, and to wait for each confirm.",
)  # fmt: skip
@click.option(
    "--patience", type=click.FloatRange(0, min_open=True), default=300.0, show_default=True, metavar="S",
    help="Give up after so many seconds without progress.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only count what would be moved.")
@json_option()
def move(
    source: str,
    destination: str,
    queues: tuple[str, ...],
    group: str | None,
    apps: tuple[str, ...],
    dead_letters: bool,
    scheduled: bool,
    follow: bool,
    limit: int | None,
    rate: float,
    window: int,
    timeout: float,
    patience: float,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Carry messages that wait in queues of SOURCE over to the queues of the same names at DESTINATION.

    Both are URLs, or @FILE with the URL in it. Each message is removed when the destination has confirmed it: an
    interruption loses nothing, and the same command goes on where it ended. Without --queue and --app these are all
    queues that the source can list; --group keeps to one group. With --app, queues that the destination lacks are
    declared.

    \b
    Exit codes: 0 all was moved (with --follow: until Ctrl-C); 1 some could not be moved, and is told;
    69 one side cannot be reached; 77 refused; 78 a queue is missing, or a mistake in a URL; 130 interrupted.
    """
    from eventbus._cli.apps import merged_topology
    from eventbus.moving import Move

    moving = Move(
        source,
        destination,
        queues=queues,
        group=group,
        topology=merged_topology(apps) if apps else None,
        dead_letters=dead_letters,
        scheduled=scheduled,
        window=window,
        timeout=timeout,
        patience=patience,
    )
    with progress("moved") as one_more, _stopped_by_signals(moving) as stopped:
        report = moving.run(
            rate=rate or None, limit=limit, dry_run=dry_run, follow=follow, moved=lambda queue, id: one_more()
        )
    _print(report, as_json)
    if report.problems:
        return exits.FAILED
    return exits.INTERRUPTED if stopped and not follow else exits.DONE


@contextmanager
def _stopped_by_signals(moving: Move) -> Iterator[list[int]]:
    """End it in order at the first Ctrl-C or SIGTERM, and at once at the second; gives the signals that came."""
    came: list[int] = []

    def stop(number: int, frame: object) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        moving.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(report: MoveReport, as_json: bool) -> None:
    if as_json:
        fields = {name: getattr(report, name) for name in report.__struct_fields__}
        print_json({"moved": report.moved, "marked": report.marked, "left": report.left, **fields})
    else:
        from rich.markup import escape

        rows = [
            (escape(printable(queue.name)), str(queue.moved), str(queue.marked), str(queue.left))
            for queue in report.queues
        ]
        if rows:
            print_table(("queue", "to be moved" if report.dry_run else "moved", "as redelivered", "left"), rows)
        click.echo(f"{report.moved} {'to be moved' if report.dry_run else 'moved'}")
    for problem in report.problems:
        click.echo(f"not moved: {printable(problem)}", err=True)
    for name in report.missing:
        click.echo(f"{printable(name)} does not exist at the source", err=True)
    for name in report.shared:
        click.echo(f"{printable(name)} has other consumers at the source; what they hold is not moved", err=True)
    for name, count in report.beside.items():
        click.echo(f"{printable(name)} has {count} messages that were not meant{_how(name)}", err=True)


def _how(name: str) -> str:
    from eventbus.transport import SCHEDULED

    return " (--scheduled moves them)" if name == SCHEDULED else " (--dead-letters moves them)"
