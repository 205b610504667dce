"""``eventbus broker``: a production-like RabbitMQ in a folder, in one command."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eventbus.cli import FAILED, app_option, json_option, load_buses, print_json, print_table

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    from eventbus import Secret, Topology
    from eventbus_rabbitmq_admin._broker.running import Running
    from eventbus_rabbitmq_admin._broker.state import StateFolder, Wish

STATE = ".eventbus/broker"


@click.group()
def broker() -> None:
    """A production-like RabbitMQ on this machine: certificates, users with least privilege, definitions, no guest."""


def _state_option() -> Callable[[F], F]:
    """``--state``."""
    return click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(STATE),
        show_default=True,
        envvar="EVENTBUS_BROKER_STATE",
        help="Folder of its files and data.",
    )


def _ipv4(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    import socket
    from ipaddress import IPv4Address

    try:
        IPv4Address(value)
        with socket.socket() as probe:
            probe.bind((value, 0))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no IPv4 address, such as 127.0.0.1 or 0.0.0.0", ctx, parameter
        ) from None
    except OSError:
        raise click.BadParameter(f"this machine has no address {value}", ctx, parameter) from None
    return value


def _not_empty(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("it needs a name", ctx, parameter)
    return value


@broker.command(
    epilog="\b\nExamples:\n  eventbus broker up --tls --app shop.billing:bus --app shop.emails:bus --vhost customers\n"
    "  eventbus broker up --cluster 3\n  set -a; . .eventbus/broker/services/billing.env; set +a"
)
@_state_option()
@app_option()
@click.option("--tls", is_flag=True, help="TLS only: every service logs in by its own client certificate.")
@click.option("--cluster", "size", type=click.IntRange(1, 7), default=1, metavar="N", help="Nodes; default: 1.")
@click.option("--vhost", default="eventbus", show_default=True, callback=_not_empty, help="Virtual host.")
@click.option("--engine", type=click.Choice(["auto", "native", "docker"]), default="auto", show_default=True)
@click.option(
    "--listen",
    default="127.0.0.1",
    show_default=True,
    callback=_ipv4,
    help="IPv4 address; 0.0.0.0 for other machines too.",
)
@click.option(
    "--host",
    default="localhost",
    show_default=True,
    callback=_not_empty,
    help="Name by which clients reach it, and verify it.",
)
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
    without, one user "app" may do everything in the virtual host. Again with the same folder: the same broker, with
    the services that --app names now; without --app those of before.
    """
    from eventbus_rabbitmq_admin._broker import files
    from eventbus_rabbitmq_admin._broker.members import complete
    from eventbus_rabbitmq_admin._broker.running import chosen_engine, running_of
    from eventbus_rabbitmq_admin._broker.state import StateFolder, Wish

    folder = StateFolder(state)
    topology = _topology(apps) if apps else None
    if folder.exists:
        wish = _as_before(folder, topology, engine=engine, vhost=vhost, tls=tls, size=size, listen=listen, host=host)
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
            derived=topology is not None,
        )
    passwords = files.write_all(folder, wish, topology)
    nodes = running_of(folder, wish)
    running, began = all(nodes.running()), time.monotonic()
    nodes.start(timeout)
    if size > 1:
        complete(nodes, files.read_definitions(folder), vhost, timeout - (time.monotonic() - began))
    elif running:  # a node that has just started has read them
        nodes.import_definitions()
    _tell(folder, wish, _write_environments(folder, wish, nodes, passwords), _remove_gone(folder, wish, nodes), as_json)


def _write_environments(
    folder: StateFolder, wish: Wish, nodes: Running, passwords: Mapping[str, Secret]
) -> list[dict[str, str]]:
    from eventbus_rabbitmq_admin._broker import files
    from eventbus_rabbitmq_admin._broker.state import ADMIN

    services = []
    for name in wish.services:
        url = files.service_url(folder, wish, name, nodes.hosts(), passwords.get(name), strict=wish.derived)
        path = files.write_service_file(folder, name, {"EVENTBUS_URL": url})
        services.append({"service": name, "url": files.redacted(url, passwords.get(name)), "environment": path})
    url = files.service_url(folder, wish, ADMIN, nodes.hosts(), passwords[ADMIN], strict=wish.derived)
    files.write_service_file(folder, ADMIN, files.admin_lines(folder, wish, url, passwords[ADMIN]))
    return services


def _remove_gone(folder: StateFolder, wish: Wish, nodes: Running) -> list[str]:
    """Importing definitions deletes nobody, and a user that nobody needs is a way in."""
    gone = folder.gone(wish)
    known = {line.partition("\t")[0] for line in nodes.ctl(["list_users"]).splitlines()} if gone else set()
    for name in gone:
        if name in known:
            nodes.ctl(["delete_user", name])
        folder.forget(name)
    return gone


def _topology(apps: tuple[str, ...]) -> Topology:
    from eventbus_rabbitmq_admin._layout import topology_of

    # Apps commonly read their broker's URL when they are imported, and there is none yet.
    os.environ.setdefault("EVENTBUS_URL", "amqp://localhost/")
    return topology_of(load_buses(apps))[0]


def _as_before(folder: StateFolder, topology: Topology | None, *, engine: str, **asked: object) -> Wish:
    import shlex

    from eventbus import ConfigurationError
    from eventbus_rabbitmq_admin._broker import files

    wish = folder.wish()
    if {name: getattr(wish, name) for name in asked} != asked or engine not in ("auto", wish.engine):
        before = f"--vhost {shlex.quote(wish.vhost)} --listen {wish.listen} --host {wish.host} --engine {wish.engine}"
        before += (" --tls" if wish.tls else "") + (f" --cluster {wish.size}" if wish.size > 1 else "")
        raise ConfigurationError(
            f"the broker in {folder.path} was made with {before}: say the same, take another --state, or remove "
            f"it with: eventbus broker down --delete --state {shlex.quote(str(folder.path))}"
        )
    return wish if topology is None else files.same_but(wish, services=files.services_of(topology), derived=True)


def _free_ports(size: int) -> tuple[int, ...]:
    from eventbus_rabbitmq._local.common import free_port

    return tuple(free_port() for _ in range(size))


def _tell(folder: StateFolder, wish: Wish, services: list[dict[str, str]], removed: list[str], as_json: bool) -> None:
    import shlex

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
                "removed": removed,
                "production": str(folder.rabbitmq),
                "compose": str(folder.compose),
            }
        )
        return
    click.echo(f"ready: RabbitMQ ({wish.engine}), virtual host {wish.vhost!r}, {wish.size} node(s)")
    for name in removed:
        click.echo(f"removed: user {name}, whom no --app names any more")
    for service in services:
        file = shlex.quote(service["environment"])
        click.echo(f"\n{service['service']}:\n  EVENTBUS_URL={service['url']}\n  set -a; . {file}; set +a")
    click.echo(f"\nmanagement: {' '.join(management)} as admin, whose password is in {folder.path / 'admin.password'}")
    admin = shlex.quote(str(folder.services / "admin.env"))
    click.echo(f"  set -a; . {admin}; set +a    # for eventbus topology plan, and doctor")
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
    folder, _, nodes = _opened(state)
    nodes.stop(discard=delete)
    if delete:
        folder.delete()
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


def _opened(state: Path) -> tuple[StateFolder, Wish, Running]:
    from eventbus_rabbitmq_admin._broker.running import running_of
    from eventbus_rabbitmq_admin._broker.state import StateFolder

    folder = StateFolder(state)
    wish = folder.wish()
    return folder, wish, running_of(folder, wish)
