"""The text of rabbitmq.conf: TLS only, client certificates demanded, no guest.

Source: https://www.rabbitmq.com/docs/configure and .../ssl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec


class TLSPaths(msgspec.Struct, frozen=True, kw_only=True):
    """Where the broker finds its certificate files."""

    ca: str
    certificate: str
    key: str


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of a node. ``amqp`` is without TLS, ``amqps`` with; None where it does not listen."""

    amqp: str | None = None
    amqps: str | None = None
    management_ip: str = "127.0.0.1"
    management_port: int = 15672


PLUGINS = ("rabbitmq_management",)
TLS_PLUGINS = ("rabbitmq_management", "rabbitmq_auth_mechanism_ssl")


def configuration(
    *, listening: Listening, definitions: str, tls: TLSPaths | None = None, minimum_version: str = "1.2"
) -> dict[str, str]:
    """The lines of rabbitmq.conf. With ``tls`` all listeners have it, and users are their certificates' names.

    Loading definitions at the first boot also keeps RabbitMQ from making its user guest.
    """
    lines = {"listeners.tcp": "none"} if listening.amqp is None else {"listeners.tcp.1": listening.amqp}
    lines["load_definitions"] = definitions
    # What nobody has confirmed yet must not fill the disk, and a client that says nothing must not hold a socket.
    lines |= {"disk_free_limit.absolute": "1GB", "handshake_timeout": "10000"}
    if tls is None:
        lines |= {"management.tcp.ip": listening.management_ip, "management.tcp.port": str(listening.management_port)}
        return lines
    versions = ("tlsv1.3",) if minimum_version == "1.3" else ("tlsv1.3", "tlsv1.2")
    for prefix in ("ssl_options", "management.ssl"):
        lines |= {
            f"{prefix}.cacertfile": tls.ca,
            f"{prefix}.certfile": tls.certificate,
            f"{prefix}.keyfile": tls.key,
        }
        lines |= {f"{prefix}.versions.{n}": version for n, version in enumerate(versions, 1)}
    lines |= {
        "listeners.ssl.1": listening.amqps or "5671",
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
        "ssl_options.depth": "2",
        "ssl_cert_login_from": "common_name",
        "auth_mechanisms.1": "EXTERNAL",
        "management.ssl.ip": listening.management_ip,
        "management.ssl.port": str(listening.management_port),
    }
    return lines


def cluster_lines(nodes: Sequence[str]) -> dict[str, str]:
    """Lines by which the nodes of a cluster find each other."""
    if len(nodes) < 2:
        return {}
    return {
        "cluster_formation.peer_discovery_backend": "classic_config",
        **{f"cluster_formation.classic_config.nodes.{n}": node for n, node in enumerate(nodes, 1)},
        **waiting_lines(len(nodes)),
        "cluster_partition_handling": "pause_minority",
    }


def waiting_lines(size: int) -> dict[str, str]:
    """Lines by which the queues of the definitions are made when all nodes are there.

    A quorum queue gets its members when it is made: made by the first node, it would live on that one alone.
    """
    return {} if size < 2 else {"cluster_formation.target_cluster_size_hint": str(size)}


def as_text(lines: Mapping[str, str], *, head: str = "") -> str:
    """rabbitmq.conf."""
    return (head + "\n" if head else "") + "".join(f"{name} = {value}\n" for name, value in lines.items())
