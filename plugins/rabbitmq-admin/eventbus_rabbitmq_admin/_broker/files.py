"""Writes what a broker needs into its state folder: certificates, definitions, configuration, and files of services."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
import orjson
from eventbus_certs import CertificateAuthority
from eventbus_rabbitmq import RabbitMQOptions

from eventbus import Access, ConfigurationError, Secret, Topology
from eventbus_rabbitmq_admin._broker.compose import compose_text
from eventbus_rabbitmq_admin._broker.state import ADMIN, StateFolder, Wish, write_private
from eventbus_rabbitmq_admin._conf import (
    PLUGINS,
    TLS_PLUGINS,
    Listening,
    TLSPaths,
    as_text,
    cluster_lines,
    configuration,
    waiting_lines,
)
from eventbus_rabbitmq_admin._definitions import User, definitions
from eventbus_rabbitmq_admin._layout import declarer_of, layout_of
from eventbus_rabbitmq_admin._permissions import permissions_of

QUEUE_EXCHANGE = "eventbus.queues"
PRODUCTION = "/etc/rabbitmq/eventbus"
_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
NAMES = ("localhost", "127.0.0.1", "::1")

# A service whose topology is there already needs no leave to make it, and none to write to every queue.
STRICT = RabbitMQOptions(declare="passive", queue_exchange=QUEUE_EXCHANGE)


def write_all(folder: StateFolder, wish: Wish, topology: Topology | None) -> Mapping[str, Secret]:
    """Write every file; certificates, keys and passwords that are there stay. Gives the users' passwords."""
    folder.make()
    # Who logs in by certificate needs no password.
    passwords = folder.passwords((ADMIN,) if wish.tls else (ADMIN, *wish.services))
    if wish.tls:
        _certificates(folder, wish)
    if topology is not None or not wish.derived:  # else those of before stay, with their permissions
        _definitions(folder, wish, topology, passwords)
    plugins = TLS_PLUGINS if wish.tls else PLUGINS
    (folder.rabbitmq / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
    (folder.rabbitmq / "rabbitmq.conf").write_text(production_conf(wish))
    folder.compose.write_text(compose_text(wish))
    cookie = folder.path / ".env"  # where compose looks for values
    if wish.size > 1 and not cookie.exists():
        write_private(cookie, f"RABBITMQ_ERLANG_COOKIE={secrets.token_hex(20)}\n")
    folder.keep_wish(wish)
    return passwords


def production_conf(wish: Wish) -> str:
    """rabbitmq.conf for a broker whose files are in /etc/rabbitmq/eventbus."""
    tls = TLSPaths(
        ca=f"{PRODUCTION}/tls/ca.pem", certificate=f"{PRODUCTION}/tls/server.pem", key=f"{PRODUCTION}/tls/server.key"
    )
    lines = configuration(
        listening=Listening(
            amqp=None if wish.tls else "0.0.0.0:5672",
            amqps="0.0.0.0:5671" if wish.tls else None,
            management_port=15671 if wish.tls else 15672,
        ),
        definitions=f"{PRODUCTION}/definitions.json",
        tls=tls if wish.tls else None,
    )
    lines |= cluster_lines([f"rabbit@rabbit{n}" for n in range(1, wish.size + 1)])
    head = (
        "# Made by eventbus broker up. Copy this folder to /etc/rabbitmq/eventbus; tls/server.key is the broker's only."
    )
    return as_text(lines, head=head)


def local_conf(folder: StateFolder, wish: Wish, number: int, amqp: str | None, amqps: str | None) -> dict[str, str]:
    """Lines for a node here: the same, with this folder's paths and its own ports."""
    tls = folder.rabbitmq / "tls"
    lines = configuration(
        listening=Listening(
            amqp=amqp, amqps=amqps, management_ip=wish.listen, management_port=wish.management_ports[number - 1]
        ),
        definitions=str(folder.rabbitmq / "definitions.json"),
        tls=TLSPaths(ca=str(tls / "ca.pem"), certificate=str(tls / "server.pem"), key=str(tls / "server.key"))
        if wish.tls
        else None,
    )
    return lines | waiting_lines(wish.size)


def _certificates(folder: StateFolder, wish: Wish) -> None:
    if (folder.ca / "ca.pem").exists():
        authority = CertificateAuthority.load(folder.ca)
    else:
        authority = CertificateAuthority.create("eventbus broker CA")
        authority.save(folder.ca)
    tls = folder.rabbitmq / "tls"
    tls.mkdir(exist_ok=True)
    (tls / "ca.pem").write_bytes((folder.ca / "ca.pem").read_bytes())
    if not (tls / "server.pem").exists():
        names = [*NAMES, *(f"rabbit{n}" for n in range(1, wish.size + 1))]
        authority.issue_server(dict.fromkeys([*names, wish.host])).save(tls, "server")
    for service in (ADMIN, *wish.services):
        if not (folder.services / f"{service}.pem").exists():
            authority.issue_client(service).save(folder.services, service)


def _definitions(folder: StateFolder, wish: Wish, topology: Topology | None, passwords: Mapping[str, Secret]) -> None:
    whole = topology or Topology(services=tuple(Access(service=name) for name in wish.services))
    free = () if topology is not None else wish.services
    users = [User(name=ADMIN, password=passwords[ADMIN], tags=("administrator",))]
    users += [User(name=name, password=None if wish.tls else passwords[name]) for name in wish.services]
    document = definitions(
        vhost=wish.vhost,
        layout=layout_of(whole, declarer_of(STRICT if topology is not None else RabbitMQOptions())),
        users=users,
        permissions=[permissions_of(access, whole, STRICT) for access in whole.services if access.service not in free],
        administrators=(ADMIN, *free),
    )
    write_private(
        folder.rabbitmq / "definitions.json", orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"
    )


def read_definitions(folder: StateFolder) -> dict[str, Any]:
    """What the definitions file says now."""
    found: dict[str, Any] = orjson.loads((folder.rabbitmq / "definitions.json").read_bytes())
    return found


def service_url(
    folder: StateFolder, wish: Wish, service: str, hosts: str, password: Secret | None, *, strict: bool
) -> str:
    """The URL for a service; it has a password unless the service logs in by certificate."""
    options = ["declare=passive", f"queue_exchange={QUEUE_EXCHANGE}"] if strict else []
    vhost = quote(wish.vhost, safe="")
    if password is not None and not wish.tls:
        query = f"?{'&'.join(options)}" if options else ""
        return f"amqp://{quote(service, safe='')}:{quote(password.reveal(), safe='')}@{hosts}/{vhost}{query}"
    files = {
        "cacertfile": folder.ca / "ca.pem",
        "certfile": folder.services / f"{service}.pem",
        "keyfile": folder.services / f"{service}.key",
    }
    query = "&".join(
        ["auth_mechanism=external", *(f"{name}={quote(str(file))}" for name, file in files.items()), *options]
    )
    return f"amqps://{hosts}/{vhost}?{query}"


def write_service_file(folder: StateFolder, service: str, lines: Mapping[str, str]) -> str:
    """A file of environment lines, for ``set -a; . file`` or systemd's EnvironmentFile; gives its path."""
    path = folder.services / f"{service}.env"
    write_private(path, "".join(f"{name}={_quoted(value)}\n" for name, value in lines.items()))
    return str(path)


def _quoted(value: str) -> str:
    return shlex.quote(value) if "'" in value else f"'{value}'"


def admin_lines(folder: StateFolder, wish: Wish, url: str, password: Secret) -> dict[str, str]:
    """Environment lines for who looks after the broker: for topology plan and apply, and for doctor."""
    file = folder.path / "admin.password"
    write_private(file, password.reveal() + "\n")
    return {
        "EVENTBUS_URL": url,
        "EVENTBUS_MANAGEMENT": f"{'https' if wish.tls else 'http'}://{wish.host}:{wish.management_ports[0]}",
        "EVENTBUS_MANAGEMENT_USER": ADMIN,
        "EVENTBUS_MANAGEMENT_PASSWORD_FILE": str(file),
    }


def redacted(url: str, password: Secret | None) -> str:
    """The URL without its password, for a screen."""
    return url if password is None else url.replace(quote(password.reveal(), safe=""), "***")


def services_of(topology: Topology) -> tuple[str, ...]:
    """The names of the services, which are their users at the broker, and names of files.

    :raises ConfigurationError: one cannot be both, or is the administrator's.
    """
    for access in topology.services:
        if not _SERVICE.fullmatch(access.service) or access.service == ADMIN:
            raise ConfigurationError(
                f"service {access.service!r} cannot be a user here: a name is up to 64 letters, digits, '.', '_' and "
                f"'-', and not {ADMIN!r}"
            )
    return tuple(access.service for access in topology.services)


def same_but(wish: Wish, **changes: object) -> Wish:
    """A wish with other values."""
    return msgspec.structs.replace(wish, **changes)
