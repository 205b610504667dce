"""``eventbus topology plan | apply | export | permissions``: the topology of the code, at a RabbitMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from eventbus.cli import DIFFERS, DONE, apps_argument, console, json_option, load_buses, print_json, print_table
from eventbus_rabbitmq_admin._cli.access import broker_options, management_options, open_management

if TYPE_CHECKING:
    from eventbus_rabbitmq_admin._plan import Plan, Step

_COLOUR = {"create": "green", "change": "yellow", "recreate": "red", "delete": "red"}
_SIGN = {"create": "+", "change": "~", "recreate": "!", "delete": "-"}


@click.command(
    epilog="\b\nExamples:\n  eventbus topology plan shop.billing:bus shop.emails:bus\n"
    "  eventbus topology plan shop.billing:bus --url amqps://admin@broker/customers --json\n\n"
    "\b\nExit code 2 when the broker differs from the code."
)
@apps_argument()
@management_options()
@json_option()
def plan(apps: tuple[str, ...], url: str, management: str | None, as_json: bool) -> int:
    """Show what has to change at the broker; change nothing."""
    found = _plan(apps, url, management)
    _print(found, as_json)
    return DONE if found.empty else DIFFERS


@click.command(
    epilog="\b\nExamples:\n  eventbus topology apply shop.billing:bus --dry-run\n"
    "  eventbus topology apply shop.billing:bus"
)
@apps_argument()
@management_options()
@click.option("--dry-run", is_flag=True, help="Show the steps, and take none.")
@click.option("--allow-destroy", is_flag=True, help="Delete and make anew what differs in properties.")
@click.option("--allow-data-loss", is_flag=True, help="Delete queues even if they hold messages.")
@json_option()
def apply(
    apps: tuple[str, ...],
    url: str,
    management: str | None,
    dry_run: bool,
    allow_destroy: bool,
    allow_data_loss: bool,
    as_json: bool,
) -> None:
    """Make the broker hold what the code needs. What else is there stays."""
    from eventbus_rabbitmq_admin._apply import apply as apply_plan

    found = _plan(apps, url, management)
    if dry_run:
        _print(found, as_json)
        return
    done: list[Step] = []
    with open_management(broker_options(url), management) as api:
        apply_plan(
            found,
            api,
            allow_destroy=allow_destroy or allow_data_loss,
            allow_data_loss=allow_data_loss,
            told=lambda step: _did(step, done, as_json),
        )
    if as_json:
        print_json({"vhost": found.vhost, "applied": [_as_dict(step) for step in done]})
    elif not done:
        click.echo(f"virtual host {found.vhost!r} holds all that the code needs: nothing to do")


@click.command(
    epilog="\b\nExamples:\n"
    "  eventbus topology export --definitions shop.billing:bus --vhost customers > definitions.json\n"
    "  eventbus topology export shop.billing:bus --no-users | rabbitmqctl import_definitions"
)
@apps_argument()
@click.option("--definitions", is_flag=True, help="As RabbitMQ's definitions: the default, and so far the only form.")
@click.option("--vhost", default="/", show_default=True, help="The virtual host that holds all of it.")
@click.option("--users/--no-users", default=True, help="With a user for each service, and its permissions.")
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="File to write; default: standard output.")
def export(apps: tuple[str, ...], definitions: bool, vhost: str, users: bool, output: str | None) -> None:
    """Write a definitions file that RabbitMQ 3.10 to 4.x imports.

    Its users have no password: they log in by certificate, or get one with rabbitmqctl change_password.
    """
    import orjson

    from eventbus_rabbitmq_admin import _definitions
    from eventbus_rabbitmq_admin._layout import declarer_of, layout_of, options_by_service, topology_of
    from eventbus_rabbitmq_admin._permissions import permissions_of

    buses = load_buses(apps)
    topology, options = topology_of(buses)
    by_service = options_by_service(buses)
    services = topology.services if users else ()
    document = _definitions.definitions(
        vhost=vhost,
        layout=layout_of(topology, declarer_of(options)),
        users=[_definitions.User(name=access.service) for access in services],
        permissions=[permissions_of(access, topology, by_service[access.service]) for access in services],
    )
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    if output is None:
        click.echo(text)
    else:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text + "\n")


@click.command(
    epilog="\b\nExamples:\n  eventbus topology permissions shop.billing:bus\n"
    "  eventbus topology permissions shop.billing:bus --declare passive --commands --vhost customers"
)
@apps_argument()
@click.option(
    "--declare",
    type=click.Choice(["create", "passive", "none"]),
    help="Whether services declare their topology themselves; default: as their URLs say.",
)
@click.option("--commands", is_flag=True, help="As rabbitmqctl commands.")
@click.option("--vhost", default="/", show_default=True, help="For --commands.")
@json_option()
def permissions(apps: tuple[str, ...], declare: str | None, commands: bool, vhost: str, as_json: bool) -> None:
    """Show what each service's user must be allowed, and no more."""
    import msgspec

    from eventbus_rabbitmq_admin._layout import options_by_service, topology_of
    from eventbus_rabbitmq_admin._permissions import permissions_of

    buses = load_buses(apps)
    topology, _ = topology_of(buses)
    found = []
    for access in topology.services:
        options = options_by_service(buses)[access.service]
        if declare is not None:
            options = msgspec.structs.replace(options, declare=declare)
        found.append(permissions_of(access, topology, options))
    if as_json:
        print_json(found)
    elif commands:
        for each in found:
            head = f"rabbitmqctl set_permissions -p {_quoted(vhost)} {_quoted(each.service)}"
            click.echo(f"{head} {_quoted(each.configure)} {_quoted(each.write)} {_quoted(each.read)}")
            for topic in each.topics:
                head = f"rabbitmqctl set_topic_permissions -p {_quoted(vhost)} {_quoted(each.service)}"
                click.echo(f"{head} {_quoted(topic.exchange)} {_quoted(topic.write)} {_quoted(topic.read)}")
    else:
        for each in found:
            rows = [["configure", "", each.configure], ["write", "", each.write], ["read", "", each.read]]
            for topic in each.topics:
                rows += [["topics, write", topic.exchange, topic.write], ["topics, read", topic.exchange, topic.read]]
            print_table(["may", "exchange", "names that match"], _escaped(rows), title=each.service)


def _plan(apps: tuple[str, ...], url: str, management: str | None) -> Plan:
    from eventbus_rabbitmq_admin._layout import declarer_of, layout_of, topology_of
    from eventbus_rabbitmq_admin._plan import plan_for

    topology, options = topology_of(load_buses(apps))
    broker = broker_options(url)
    with open_management(broker, management) as api:
        return plan_for(broker.vhost, layout_of(topology, declarer_of(options)), api.layout(broker.vhost))


def _print(found: Plan, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "vhost": found.vhost,
                "differs": not found.empty,
                "steps": [_as_dict(step) for step in found.steps],
                "unmanaged": found.unmanaged,
            }
        )
        return
    for step in found.steps:
        _print_step(step)
    for name in found.unmanaged:
        console().print(f"  [dim]= {_safe(name)} is there too, and stays[/dim]")
    recreated = sum(step.destructive for step in found.steps)
    if found.empty:
        click.echo(f"virtual host {found.vhost!r} holds all that the code needs")
    else:
        also = f", {recreated} of them destructive (--allow-destroy)" if recreated else ""
        click.echo(f"{len(found.steps)} steps{also}")


def _print_step(step: Step) -> None:
    colour = _COLOUR[step.action]
    line = f"  [{colour}]{_SIGN[step.action]} {step.action} {step.kind} {_safe(step.name)}[/{colour}]"
    if step.action == "recreate":
        line += " (delete and create anew: RabbitMQ cannot change it)"
    console().print(line)
    for difference in step.differs:
        console().print(f"      {_safe(difference)}")


def _did(step: Step, done: list[Step], as_json: bool) -> None:
    done.append(step)
    if not as_json:
        _print_step(step)


def _as_dict(step: Step) -> dict[str, object]:
    return {
        "action": step.action,
        "kind": step.kind,
        "name": step.name,
        "destructive": step.destructive,
        "differs": list(step.differs),
    }


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _escaped(rows: list[list[str]]) -> list[list[str]]:
    return [[_safe(cell) for cell in row] for row in rows]


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
