"""``eventbus dead-letters list | show | replay | discard``."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from eventbus._cli import exits
from eventbus._cli.commands import PluginGroup
from eventbus._cli.dead_letters import showing
from eventbus._cli.dead_letters.options import Given, selection
from eventbus._cli.output import print_json, print_table, printable
from eventbus._cli.progress import progress

if TYPE_CHECKING:
    from eventbus.dead_letters import DeadLetterReport, DeadMessage, FoundDeadLetters, GroupedDeadLetters


@click.group(
    cls=PluginGroup,
    prefix="dead-letters.",
    epilog="\b\nExamples:\n  eventbus dead-letters list --app shop.emails:bus --groups\n"
    "  eventbus dead-letters show 0199a1f0-... --queue emails.customers.registered\n"
    "  eventbus dead-letters replay --app shop.emails:bus --error-type SMTPError --rate 20\n"
    "  eventbus dead-letters discard --queue emails.customers.registered --until 30d",
)
def dead_letters() -> None:
    """Messages that a group has given up: list, show, replay and discard them."""


@click.command("list")
@selection
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    metavar="N",
    help="At most so many, the last ones.",
)
@click.option("--groups", is_flag=True, help="Count those that failed alike: by queue, error type and digest.")
def list_(limit: int, groups: bool, **options: Any) -> int:
    """List dead letters in the order of their deaths. Looks at all, and changes nothing."""
    given = Given(**options)
    if groups:
        _print_groups(given.letters().groups(given.where()), given)
    else:
        _print_found(given.letters().list(given.where(), limit=limit), given)
    return exits.DONE


@click.command()
@click.argument("message_id", metavar="ID")
@selection
@click.option(
    "--body", type=click.IntRange(0), default=2000, show_default=True, metavar="N", help="Show so much of it."
)
def show(message_id: str, body: int, **options: Any) -> int:
    """Show everything of one message. Changes nothing."""
    given = Given(**options)
    found = given.letters().list(given.where(message_id), limit=10)
    _notes(found)
    if not found.messages:
        raise click.ClickException(f"no dead letter has the id {printable(message_id)}")
    if given.as_json:
        print_json([showing.as_json(dead, whole=True) for dead in found])
    else:
        click.echo("\n\n".join(showing.as_text(dead, body) for dead in found))
    return exits.DONE


@click.command()
@selection
@click.option(
    "--rate", type=click.FloatRange(0), default=100.0, show_default=True, metavar="N",
    help="At most so many a second; 0 is as fast as it goes.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(0), metavar="N", help="At most so many, the first ones in the queue.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
def replay(rate: float, limit: int | None, dry_run: bool, **options: Any) -> int:
    """Send dead letters again to the queue that they failed in, and to no other group.

    They keep their ids, and begin with the first attempt. Each is removed when the broker has confirmed its copy: an
    interruption loses nothing, and the same command goes on where it ended.
    """
    given = Given(**options)
    with _progress("replayed") as moved:
        report = given.letters().replay(given.where(), rate=rate or None, limit=limit, dry_run=dry_run, moved=moved)
    return _print_report(report, given, "would be replayed" if dry_run else "replayed")


@click.command()
@selection
@click.option("--limit", type=click.IntRange(0), metavar="N", help="At most so many, the first ones in the queue.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard(limit: int | None, dry_run: bool, yes: bool, **options: Any) -> int:
    """Delete dead letters for good."""
    given = Given(**options)
    letters = given.letters()
    if not yes and not dry_run:
        count = letters.discard(given.where(), limit=limit, dry_run=True).done
        queues = ", ".join(queue.name for queue in letters.queues)
        if count and not click.confirm(f"Delete {count} dead letters of {printable(queues)} for good?", err=True):
            click.echo("nothing was deleted", err=True)
            return exits.FAILED
        limit = count  # no more than what was asked about
    with _progress("discarded") as moved:
        report = letters.discard(given.where(), limit=limit, dry_run=dry_run, moved=moved)
    return _print_report(report, given, "would be discarded" if dry_run else "discarded")


# -- printing -----------------------------------------------------------------------------------------------


def _print_found(found: FoundDeadLetters, given: Given) -> None:
    _notes(found)
    if given.as_json:
        rows = [showing.as_json(dead, whole=False) for dead in found]
        print_json({"messages": rows, **_counts(found)})
        return
    if found.messages:
        print_table(showing.LIST_COLUMNS, (showing.list_row(dead) for dead in found))
    left_out = ", those that died last" if len(found) < found.matched else ""
    click.echo(f"{len(found)} of {found.matched} dead letters{left_out} ({found.looked_at} looked at)", err=True)


def _print_groups(found: GroupedDeadLetters, given: Given) -> None:
    _notes(found)
    if given.as_json:
        print_json({"groups": list(found), **_counts(found)})
        return
    if found.groups:
        print_table(showing.GROUP_COLUMNS, (showing.group_row(group) for group in found))
    click.echo(f"{found.matched} dead letters in {len(found)} groups ({found.looked_at} looked at)", err=True)


def _print_report(report: DeadLetterReport, given: Given, what: str) -> int:
    _notes(report)
    if given.as_json:
        print_json(report)
    else:
        click.echo(f"{report.done} of {report.matched} {what} ({report.looked_at} looked at)")
        for problem in report.problems:
            click.echo(f"not {what}: {printable(problem)}", err=True)
    return exits.FAILED if report.skipped else exits.DONE


def _counts(found: FoundDeadLetters | GroupedDeadLetters) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("matched", "looked_at", "missing", "shared")}


def _notes(found: FoundDeadLetters | GroupedDeadLetters | DeadLetterReport) -> None:
    for name in found.missing:
        click.echo(f"{printable(name)} does not exist yet", err=True)
    for name in found.shared:
        click.echo(f"{printable(name)} has other consumers; what they hold is not among these", err=True)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[DeadMessage], None]]:
    """Tell how far it has come; SIGTERM is an interruption like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with progress(what) as one_more:
        yield lambda dead: one_more()
