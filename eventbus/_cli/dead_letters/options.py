"""What all commands of ``eventbus dead-letters`` are told: which broker, which queues, which dead letters."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from eventbus._cli.output import json_option
from eventbus._cli.settings import app_option, url_option

if TYPE_CHECKING:
    from eventbus.dead_letters import DeadLetterFilter, DeadLetters

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


class When(click.ParamType[float]):
    """A time, as Unix seconds: an ISO date or time, in local time unless it says otherwise, or how long ago."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds; a usage error where it is neither."""
        if isinstance(value, float):
            return value
        if (ago := _AGO.fullmatch(str(value).strip())) is not None:
            return time.time() - float(ago[1]) * _UNITS[ago[2]]
        try:
            return datetime.fromisoformat(str(value).strip()).astimezone().timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(
                f"{value!r} is no time: write 2026-03-01, 2026-03-01T12:30, or 90m, 2h, 3d for so long ago", param
            )


class Given(NamedTuple):
    """What the command was told, apart from what it does."""

    url: str | None
    apps: tuple[str, ...]
    queues: tuple[str, ...]
    group: str | None
    reason: str | None
    error_type: str | None
    kind: str | None
    topic: str | None
    digest: str | None
    since: float | None
    until: float | None
    ids: tuple[str, ...]
    timeout: float
    as_json: bool

    def where(self, *ids: str) -> DeadLetterFilter:
        """Which dead letters are meant; ``ids`` are some more."""
        from eventbus.dead_letters import DeadLetterFilter

        return DeadLetterFilter(
            group=self.group,
            reason=self.reason,
            error_type=self.error_type,
            type=self.kind,
            topic=self.topic,
            digest=self.digest,
            since=self.since,
            until=self.until,
            ids=(*self.ids, *ids),
        )

    def letters(self) -> DeadLetters:
        """The dead letters of the queues that were named, else of the programs."""
        from eventbus._cli.apps import load_buses, merged_topology
        from eventbus.dead_letters import DeadLetters

        if self.url is None and not self.apps:
            raise click.UsageError("no broker: give --url or --app, or set EVENTBUS_URL")
        if not self.queues and not self.apps:
            raise click.UsageError("no queues: name some with --queue, or give --app for those of a program")
        target = self.url if self.url is not None else next(iter(load_buses(self.apps).values())).transport
        topology = merged_topology(self.apps) if self.apps else None
        return DeadLetters(target, queues=self.queues, topology=topology, timeout=self.timeout)


def selection(function: F) -> F:
    """The options that say which dead letters; the command gets them as the fields of :class:`Given`."""
    options = (
        url_option(required=False),
        app_option(),
        click.option(
            "--queue", "queues", multiple=True, metavar="NAME",
            help="A group's queue, or its dead-letter queue; several times for several. Default: those of the program.",
        ),
        click.option("--group", metavar="NAME", help="Only those of the group's queues."),
        click.option("--reason", metavar="TEXT", help="Only those whose reason has this in it."),
        click.option("--error-type", metavar="NAME", help="Only those that failed with an exception of this name."),
        click.option("--type", "kind", metavar="TYPE", help="Only events of this type."),
        click.option("--topic", metavar="PATTERN", help="Only those whose topic matches."),
        click.option("--digest", metavar="DIGEST", help="Only those of one kind of failure."),
        click.option("--since", type=When(), metavar="WHEN", help="Only those that died then or later: 2h, 2026-03-01"),
        click.option("--until", type=When(), metavar="WHEN", help="Only those that died until then."),
        click.option("--id", "ids", multiple=True, metavar="ID", help="Only this message; several times for several."),
        click.option(
            "--timeout", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, metavar="S",
            help="Seconds to connect, and to wait for each confirm.",
        ),
        json_option(),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function
