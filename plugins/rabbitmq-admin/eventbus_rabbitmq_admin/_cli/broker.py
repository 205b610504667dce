"""``eventbus broker``: a production-like RabbitMQ in a folder, in one command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eventbus.cli import FAILED, app_option, json_option, load_buses, print_json, print_table

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    from eventbus import Topology
    from eventbus_rabbitmq_admin._broker.state import StateFolder, Wish

STATE = ".eventbus/broker"


@click.group()
def broker() -> None:
    """A production-like RabbitMQ on this machine: certificates, users with least privilege, definitions, no guest."""


def _state_option() -> Callable[[F], F]:
    return click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(STATE),
        show_default=True,
        envvar="EVENTBUS_BROKER_STATE",
        help="Folder of its files and data.",
    )


@broker.command(
    epilog="\b\nExamples:\n  eventbus broker up --tls --app shop.billing:bus --app shop.emails:bus --vhost customers\n"
    "  eventbus broker up --cluster 3\n  set -a; . .eventbus/broker/services/billing.env; set +a"
)
@_state_option()
@app_option()
@click.option("--tls", is_flag=True, help="TLS only: every service logs in by its own client certificate.")
@click.option("--cluster", "size", type=click.IntRange(1, 7), default=1, metavar="N", help="Nodes; default: 1.")
@click.option("--vhost", default="eventbus", show_default=True, help="Virtual host.")
@click.option("--engine", type=click.Choice(["auto", "native", "docker"]), default="auto", show_default=True)
@click.option("--listen", default="127.0.0.1", show_default=True, help="IPv4 address; 0.0.0.0 for other machines too.")
@click.option("--host", default="localhost", show_default=True, help="Name by which clients reach it, and verify it.")
@click.option("--timeout", type=float, default=120.0, show_default=True, help="Seconds until it must be ready.")
@json_option()
def up(
    state: Path,
    apps: tuple[str, ...],
    tls: bool,
    size: int,
    vhost: str,
    engine: str,
    listen: str,
    host: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Make what a broker needs, start it, wait until it is ready, and say how services reach it.

    With --app, the services get just the permissions that their code needs, and their topology is loaded at boot;
    without, one user "app" may do everything in the virtual host. Again with the same folder: the same broker.
    """
    from eventbus_rabbitmq.local_broker import LocalBrokerError

    from eventbus_rabbitmq_admin._broker import files
    from eventbus_rabbitmq_admin._broker.running import BrokerFailed, chosen_engine, running_of
    from eventbus_rabbitmq_admin._broker.state import ADMIN, StateFolder, Wish

    folder = StateFolder(state)
    topology = _topology(apps) if apps else None
    if folder.exists:
        wish = _as_before(folder, tls=tls, size=size, vhost=vhost, topology=topology)
    else:
        wish = Wish(
            engine=chosen_engine(engine),
            vhost=vhost,
            tls=tls,
            size=size,
            listen=listen,
            host=host,
            services=files.services_of(topology) if topology else ("app",),
            management_ports=_free_ports(size),
        )
    passwords = files.write_all(folder, wish, topology)
    try:
        nodes = running_of(folder, wish)
        fresh = not all(nodes.running())
        nodes.start(timeout)
    except LocalBrokerError as error:
        raise BrokerFailed(str(error)) from error
    if not fresh:
        nodes.ctl(["import_definitions", str(folder.rabbitmq / "definitions.json")])
    services = []
    for name in wish.services:
        strict = name != "app" or topology is not None
        url = files.service_url(folder, wish, name, nodes.hosts(), passwords.get(name), strict=strict)
        path = files.write_service_file(folder, name, {"EVENTBUS_URL": url})
        services.append({"service": name, "url": files.redacted(url, passwords.get(name)), "environment": path})
    url = files.service_url(folder, wish, ADMIN, nodes.hosts(), passwords[ADMIN], strict=topology is not None)
    files.write_service_file(folder, ADMIN, files.admin_lines(folder, wish, url, passwords[ADMIN]))
    _tell(folder, wish, services, as_json)


def _topology(apps: tuple[str, ...]) -> Topology:
    from eventbus_rabbitmq_admin._layout import topology_of

    # Apps commonly read their broker's URL when they are imported, and there is none yet.
    os.environ.setdefault("EVENTBUS_URL", "amqp://localhost/")
    return topology_of(load_buses(apps))[0]


def _as_before(folder: StateFolder, *, tls: bool, size: int, vhost: str, topology: Topology | None) -> Wish:
    from eventbus import ConfigurationError
    from eventbus_rabbitmq_admin._broker import files

    wish = folder.wish()
    if (wish.tls, wish.size, wish.vhost) != (tls, size, vhost):
        before = (
            f"--vhost {wish.vhost}{' --tls' if wish.tls else ''}{f' --cluster {wish.size}' if wish.size > 1 else ''}"
        )
        raise ConfigurationError(
            f"the broker in {folder.path} was made with {before}: say the same, take another --state, or remove "
            "it with: eventbus broker down --delete"
        )
    return wish if topology is None else files.same_but(wish, services=files.services_of(topology))


def _free_ports(size: int) -> tuple[int, ...]:
    from eventbus_rabbitmq._local.common import free_port

    return tuple(free_port() for _ in range(size))


def _tell(folder: StateFolder, wish: Wish, services: list[dict[str, str]], as_json: bool) -> None:
    scheme = "https" if wish.tls else "http"
    management = [f"{scheme}://{wish.host}:{port}" for port in wish.management_ports]
    if as_json:
        print_json(
            {
                "state": str(folder.path),
                "engine": wish.engine,
                "vhost": wish.vhost,
                "management": management,
                "administrator": {"user": "admin", "environment": str(folder.services / "admin.env")},
                "services": services,
                "production": str(folder.rabbitmq),
                "compose": str(folder.compose),
            }
        )
        return
    click.echo(f"ready: RabbitMQ ({wish.engine}), virtual host {wish.vhost!r}, {wish.size} node(s)")
    for service in services:
        click.echo(
            f"\n{service['service']}:\n  EVENTBUS_URL={service['url']}\n  set -a; . {service['environment']}; set +a"
        )
    click.echo(f"\nmanagement: {' '.join(management)} as admin, whose password is in {folder.path / 'admin.password'}")
    click.echo(f"  set -a; . {folder.services / 'admin.env'}; set +a    # for eventbus topology plan, and doctor")
    click.echo(f"for production: {folder.rabbitmq} (rabbitmq.conf, definitions.json, tls), {folder.compose}")
    click.echo("stop it with: eventbus broker down")


@broker.command(epilog="\b\nExample:\n  eventbus broker status --json")
@_state_option()
@json_option()
def status(state: Path, as_json: bool) -> int:
    """Show what runs; exit code 1 when a node does not."""
    folder, wish, nodes = _opened(state)
    alive = nodes.running()
    if as_json:
        print_json(
            {"state": str(folder.path), "engine": wish.engine, "vhost": wish.vhost, "tls": wish.tls, "nodes": alive}
        )
    else:
        hosts = nodes.hosts().split(",")
        rows = [
            [str(number), hosts[number - 1], "[green]runs[/green]" if runs else "[red]stopped[/red]"]
            for number, runs in enumerate(alive, 1)
        ]
        print_table(["node", "AMQP" + ("S" if wish.tls else ""), "state"], rows, title=f"virtual host {wish.vhost}")
    return 0 if all(alive) else FAILED


@broker.command(epilog="\b\nExamples:\n  eventbus broker down\n  eventbus broker down --delete")
@_state_option()
@click.option("--delete", is_flag=True, help="Delete the folder too: data, certificates and passwords.")
def down(state: Path, delete: bool) -> None:
    """Stop it; its data stays."""
    import shutil

    folder, _, nodes = _opened(state)
    nodes.stop()
    if delete:
        shutil.rmtree(folder.path)
    click.echo("stopped" + (" and deleted" if delete else ""))


@broker.command(epilog="\b\nExample:\n  eventbus broker logs --node 2 --lines 100")
@_state_option()
@click.option("--node", type=click.IntRange(1), default=1, show_default=True)
@click.option("--lines", type=click.IntRange(1), help="Only so many of the last lines.")
def logs(state: Path, node: int, lines: int | None) -> None:
    """Print the log of a node."""
    _, wish, nodes = _opened(state)
    if node > wish.size:
        raise click.UsageError(f"there are {wish.size} nodes")
    text = nodes.logs(node).rstrip("\n").split("\n")
    click.echo("\n".join(text[-lines:] if lines else text))


@broker.command(
    context_settings={"ignore_unknown_options": True},
    epilog="\b\nExample:\n  eventbus broker ctl -- list_queues -p eventbus",
)
@_state_option()
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
def ctl(state: Path, arguments: tuple[str, ...]) -> None:
    """Run rabbitmqctl against it."""
    _, _, nodes = _opened(state)
    click.echo(nodes.ctl(arguments), nl=False)


def _opened(state: Path) -> tuple[StateFolder, Wish, Any]:
    from eventbus_rabbitmq_admin._broker.running import running_of
    from eventbus_rabbitmq_admin._broker.state import StateFolder

    folder = StateFolder(state)
    wish = folder.wish()
    return folder, wish, running_of(folder, wish)
