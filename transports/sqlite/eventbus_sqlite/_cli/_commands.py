"""The commands: their options, and what they print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eventbus.cli import DONE, FAILED, json_option, print_json, print_table

if TYPE_CHECKING:
    from eventbus_sqlite._cli._checking import Finding
    from eventbus_sqlite._cli._inspecting import FileFacts, QueueFacts, SessionFacts
    from eventbus_sqlite._cli._saving import Saved
    from eventbus_sqlite._cli._shrinking import Vacuumed

F = TypeVar("F", bound=Callable[..., Any])

EXIT_CODES = """\b
Exit codes:
  0  done                      69  locked, or in use (vacuum --full)
  1  something is wrong        77  this user may not read or write the file
  78 no file, no bus in it, one of a newer version, or no such queue"""


def _path_of(ctx: click.Context, parameter: click.Parameter, value: str) -> Path:
    """A file, or the URL of a bus."""
    if value.startswith("sqlite:"):
        from eventbus_sqlite._options import parse

        return parse(value)[0]
    return Path(value)


def _file_argument() -> Callable[[F], F]:
    return click.argument("path", metavar="FILE", callback=_path_of)


@click.group(
    epilog="\b\nExamples:\n  eventbus sqlite info bus.db\n  eventbus sqlite vacuum bus.db\n"
    f"  eventbus sqlite check bus.db || mail -s 'bus.db is damaged' ops@example.com\n\n{EXIT_CODES}"
)
def sqlite() -> None:
    """Look at the file of an SQLite bus and look after it, beside running services.

    FILE is its path, or its URL as sqlite:///bus.db.
    """


@sqlite.command(
    epilog="\b\nExamples:\n  eventbus sqlite info bus.db\n"
    "  eventbus sqlite info bus.db --json | jq '.queues[] | select(.lag > 60) | .name'\n\n"
    f"{EXIT_CODES}"
)
@_file_argument()
@json_option()
def info(path: Path, as_json: bool) -> None:
    """Show what waits in a file, and for whom.

    Its sizes, the links that have it open, and how much is in each queue. Changes and locks nothing. The lag of a
    queue is the age of the message whose turn is next.
    """
    from eventbus_sqlite._cli._inspecting import facts
    from eventbus_sqlite._cli._reading import read

    found = read(path, lambda connection: facts(connection, path))
    if as_json:
        print_json(found)
    else:
        _print_facts(found)


@sqlite.command(
    epilog="\b\nExamples:\n  eventbus sqlite vacuum bus.db\n  eventbus sqlite vacuum bus.db --full\n\n" + EXIT_CODES
)
@_file_argument()
@click.option("--full", is_flag=True, help="Write the whole file anew. Only while nobody has it open.")
@json_option()
def vacuum(path: Path, full: bool, as_json: bool) -> None:
    """Give free room back to the file system.

    In small steps, beside running services. Buses do so by themselves, slowly. With --full the file is also put in
    order; that takes as much room again as the file has, for a while.
    """
    from eventbus_sqlite._cli._shrinking import vacuum as in_steps
    from eventbus_sqlite._cli._shrinking import vacuum_full

    done = vacuum_full(path) if full else in_steps(path)
    if as_json:
        print_json(done)
    else:
        _print_vacuumed(done)


@sqlite.command(
    epilog="\b\nExamples:\n  eventbus sqlite check bus.db\n  eventbus sqlite check bus.db --quick --json\n"
    "  eventbus sqlite check bus.db --repair\n  eventbus sqlite check bus.db --save saved.db\n\n"
    f"{EXIT_CODES}"
)
@_file_argument()
@click.option("--quick", is_flag=True, help="Do not compare indexes with their tables, nor decode every message.")
@click.option("--repair", is_flag=True, help="Put right what can be without losing anything.")
@click.option("--save", metavar="NEW", type=click.Path(path_type=Path), help="Write what can be read into a new file.")
@json_option()
def check(path: Path, quick: bool, repair: bool, save: Path | None, as_json: bool) -> int:
    """See whether a file is whole.

    SQLite looks at all its pages, and the bus's tables are compared with one another. Without --repair it changes
    and locks nothing. With it, what is held by nobody goes back to its queue, messages without a queue come into
    one named "recovered" (those of a missing queue into "recovered.NUMBER"), and what leads nowhere is deleted.
    --save is for damaged pages: a new file gets all that can be read, put right in the same way.
    """
    if repair and save is not None:
        raise click.UsageError("give --repair or --save: a file that is saved is put right anyway")
    from eventbus_sqlite._cli._checking import check as look
    from eventbus_sqlite._cli._reading import read

    found = read(path, lambda connection: look(connection, path, quick=quick))
    left, saved = found, None
    if repair and any(finding.repairable for finding in found):
        from eventbus_sqlite._cli._repairing import repair as put_right

        put_right(path)
        left = read(path, lambda connection: look(connection, path, quick=quick))
    if save is not None:
        from eventbus_sqlite._cli._saving import save as save_into

        saved = save_into(path, save)
    if as_json:
        print_json({"file": str(path), "ok": not left, "found": found, "left": left, "saved": saved})
    else:
        _print_findings(path, found, left, saved)
    return FAILED if left else DONE


@sqlite.command(
    epilog="\b\nExamples:\n  eventbus sqlite delete bus.db reports.orders.placed\n"
    "  eventbus sqlite delete bus.db reports.orders.placed reports.orders.placed.dead --messages\n\n"
    f"{EXIT_CODES}"
)
@_file_argument()
@click.argument("queues", metavar="QUEUE...", nargs=-1, required=True)
@click.option("--messages", "with_messages", is_flag=True, help="Also if there are messages in it.")
def delete(path: Path, queues: tuple[str, ...], with_messages: bool) -> None:
    """Delete queues that nobody needs any more.

    Such as those of a group that has another name now. Their bindings go too. A queue that has consumers stays.
    """
    from eventbus_sqlite._cli._deleting import delete_queue

    for queue in queues:
        count = delete_queue(path, queue, with_messages=with_messages)
        messages = f", with {_many(count, 'message')}" if count else ""
        click.echo(f"{_shown(queue)}: deleted{messages}")


# -- for people -------------------------------------------------------------------------------------------


def _print_facts(found: FileFacts) -> None:
    newer = f" ({found.newest_schema} when a bus opens it)" if found.schema < found.newest_schema else ""
    click.echo(
        f"{_shown(found.file)}: {_size(found.size)}, {_size(found.free_size)} of it free; "
        f"write-ahead log {_size(found.wal_size)}; schema version {found.schema}{newer}; SQLite {found.sqlite}"
    )
    click.echo(
        f"{_many(found.exchanges, 'exchange')}, {_many(found.bindings, 'binding')}; "
        f"{found.ready} ready, {found.held} held, {found.scheduled} scheduled"
        + (f" ({found.to_be_routed} of them for an exchange)" if found.to_be_routed else "")
    )
    if found.sessions:
        columns = ["link", "service", "process", "", "lease left", "consumers", "holds"]
        print_table(columns, map(_session_row, found.sessions))
    if found.queues:
        columns = ["queue", "ready", "lag", "held", "oldest held", "scheduled", "dead", "consumers"]
        print_table(columns, map(_queue_row, found.queues))


def _session_row(session: SessionFacts) -> Sequence[str]:
    state = {True: "[green]open[/green]", False: "[red]dead[/red]", None: "elsewhere"}[session.alive]
    lease = "" if session.lease is None else "over" if session.lease < 0 else _span(session.lease)
    return (
        str(session.id),
        _markup(session.service),
        str(session.pid),
        state,
        lease,
        str(session.consumers),
        str(session.held),
    )


def _queue_row(queue: QueueFacts) -> Sequence[str]:
    services = f" ({', '.join(map(_markup, queue.services))})" if queue.services else ""
    dead = "" if queue.dead_letters is None else str(queue.dead_letters)
    return (
        _markup(queue.name),
        str(queue.ready),
        _span(queue.lag),
        str(queue.held),
        _span(queue.oldest_held),
        str(queue.scheduled),
        f"[red]{dead}[/red]" if queue.dead_letters else dead,
        f"{queue.consumers}{services}",
    )


def _print_vacuumed(done: Vacuumed) -> None:
    click.echo(
        f"{_shown(done.file)}: {_size(done.before.size)} before, {_size(done.after.size)} now, "
        f"{_size(done.after.free_size)} of it free; write-ahead log {_size(done.before.wal_size)} before, "
        f"{_size(done.after.wal_size)} now"
    )
    if done.needs_full:
        click.echo("no bus has made this file, and it gives room back as a whole only: use --full")
    if done.wal_in_use:
        click.echo("the write-ahead log is being read, and kept its size: try again later")


def _print_findings(path: Path, found: Sequence[Finding], left: Sequence[Finding], saved: Saved | None) -> None:
    name = _shown(str(path))
    if not found:
        click.echo(f"{name}: nothing is wrong")
    kinds = {finding.kind for finding in left}
    for finding in (*left, *(finding for finding in found if finding.kind not in kinds)):
        count = "" if finding.kind in ("damaged", "state") else f"{finding.count} "
        click.echo(f"{name}: {'' if finding.kind in kinds else 'put right: '}{count}{_shown(finding.text)}")
    if saved is not None:
        parts = f"; in part only: {', '.join(saved.incomplete)}" if saved.incomplete else ""
        messages, queues = _many(saved.messages, "message"), _many(saved.queues, "queue")
        click.echo(f"{_shown(saved.file)}: saved {messages} in {queues}{parts}")
    elif "damaged" in kinds:
        click.echo(
            "Stop all services that use the file, and restore a copy; or save what can be read:\n"
            f"  eventbus sqlite check {name} --save NEW"
        )
    elif any(finding.repairable for finding in left):
        click.echo(f"eventbus sqlite check {name} --repair puts right what can be without losing anything.")


def _shown(text: str) -> str:
    """Text of a file that a stranger may have made must not speak to the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _markup(text: str) -> str:
    from rich.markup import escape

    return escape(_shown(text))


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    for unit, one in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, one in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * one:
            return f"{seconds / one:.0f} {unit}"
    return f"{seconds:.0f} s"
