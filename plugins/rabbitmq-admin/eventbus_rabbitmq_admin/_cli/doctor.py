"""``eventbus doctor``: what is wrong between here and the broker, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from eventbus.cli import FAILED, app_option, json_option, load_buses, print_json, print_table, url_option
from eventbus_rabbitmq_admin._cli.access import broker_options, open_management

if TYPE_CHECKING:
    from eventbus_rabbitmq import RabbitMQOptions

    from eventbus_rabbitmq_admin._doctor.findings import Finding

_STYLE = {
    "pass": "[green]pass[/green]",
    "warn": "[yellow]warn[/yellow]",
    "fail": "[red]FAIL[/red]",
    "skip": "[dim]skip[/dim]",
}


@click.command(
    epilog="\b\nExamples:\n  eventbus doctor amqps://billing@broker.example/customers\n"
    "  EVENTBUS_URL_FILE=/run/secrets/bus eventbus doctor --app shop.billing:bus --json\n\n"
    "\b\nExit code 0 when nothing failed (warnings do not count), else 1."
)
@click.argument("address", metavar="[URL]", required=False)
@url_option(required=False)
@app_option()
@click.option(
    "--management", metavar="URL", envvar="EVENTBUS_MANAGEMENT", help="The management API; default: by the URL."
)
@click.option("--timeout", type=float, default=10.0, show_default=True, help="Seconds for each step.")
@json_option()
def doctor(
    address: str | None,
    url: str | None,
    apps: tuple[str, ...],
    management: str | None,
    timeout: float,
    as_json: bool,
) -> int:
    """Check everything between here and the broker: name, port, TLS, login, permissions, topology, alarms.

    Prints no secret. What the management API tells needs a user with the tag monitoring or administrator: that of the
    URL, or EVENTBUS_MANAGEMENT_USER with EVENTBUS_MANAGEMENT_PASSWORD (or ..._PASSWORD_FILE).
    """
    chosen = address or url
    if chosen is None:
        raise click.UsageError("no broker: give its URL, or set EVENTBUS_URL")
    options = broker_options(chosen)
    findings = list(_examine(chosen, options, apps, management, timeout))
    if as_json:
        print_json(findings)
    else:
        _print(findings)
    return FAILED if any(finding.outcome == "fail" for finding in findings) else 0


def _examine(
    url: str, options: RabbitMQOptions, apps: tuple[str, ...], management: str | None, timeout: float
) -> Iterator[Finding]:
    from eventbus import EventBusError
    from eventbus_rabbitmq_admin._doctor import inside, login, network
    from eventbus_rabbitmq_admin._doctor.findings import skipped
    from eventbus_rabbitmq_admin._layout import options_by_service, topology_of

    buses = load_buses(apps)
    topology, wanted = topology_of(buses) if buses else (None, options)
    outside = list(network.look(options, timeout))
    yield from outside
    if any(finding.check.startswith("mechanism ") and finding.outcome == "pass" for finding in outside):
        yield login.login(url, options.vhost, timeout)
    else:
        yield skipped("login", "not tried: no host has come so far", "see the failures above")
    try:
        with open_management(options, management) as api:
            yield from inside.look(
                api, options.vhost, topology, wanted, options_by_service(buses), named=management is not None
            )
    except EventBusError as error:
        yield skipped("management API", str(error))


def _print(findings: list[Finding]) -> None:
    from rich.markup import escape

    rows = [
        [_STYLE[finding.outcome], escape(finding.check), escape(finding.found), escape(finding.advice)]
        for finding in findings
    ]
    print_table(["", "check", "found", "next step"], rows)
    counted = {outcome: sum(f.outcome == outcome for f in findings) for outcome in ("pass", "warn", "fail", "skip")}
    click.echo(", ".join(f"{count} {outcome}" for outcome, count in counted.items() if count))
