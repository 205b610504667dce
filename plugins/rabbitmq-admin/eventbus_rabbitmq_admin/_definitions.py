"""Definitions: users, permissions and topology as RabbitMQ imports and exports them (3.10 to 4.x).

Source: https://www.rabbitmq.com/docs/definitions, and .../passwords for the hashes.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from eventbus import Secret
from eventbus_rabbitmq_admin._layout import Layout
from eventbus_rabbitmq_admin._permissions import Permissions

Hashing = Literal["sha256", "sha512"]


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user of the broker. Without ``password`` it cannot log in by one: only by its certificate."""

    name: str
    password: Secret | None = None
    tags: tuple[str, ...] = ()


def password_hash(password: str, *, salt: bytes | None = None, algorithm: Hashing = "sha256") -> str:
    """The salted hash that RabbitMQ keeps of a password: Base64 of the salt (4 bytes) and the digest."""
    salt = secrets.token_bytes(4) if salt is None else salt
    digest = hashlib.new(algorithm, salt + password.encode(), usedforsecurity=True).digest()
    return base64.b64encode(salt + digest).decode()


def definitions(
    *,
    vhost: str,
    layout: Layout,
    users: Sequence[User] = (),
    permissions: Iterable[Permissions] = (),
    administrators: Iterable[str] = (),
    algorithm: Hashing = "sha256",
) -> dict[str, Any]:
    """A definitions file: one virtual host, its topology, its users and what they may do.

    ``permissions`` belong to the users of the same name; ``administrators`` may do all in the virtual host.
    """
    allowed = list(permissions)
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "users": [_user(user, algorithm) for user in users],
        "vhosts": [{"name": vhost}],
        "permissions": [
            *({"user": name, "vhost": vhost, **everything} for name in administrators),
            *(
                {"user": p.service, "vhost": vhost, "configure": p.configure, "write": p.write, "read": p.read}
                for p in allowed
            ),
        ],
        "topic_permissions": [
            {"user": p.service, "vhost": vhost, "exchange": t.exchange, "write": t.write, "read": t.read}
            for p in allowed
            for t in p.topics
        ],
        "parameters": [],
        "global_parameters": [],
        **topology_definitions(vhost, layout),
    }


def topology_definitions(vhost: str, layout: Layout) -> dict[str, Any]:
    """The part of a definitions file that is topology."""
    return {
        "policies": [
            {
                "vhost": vhost,
                "name": policy.name,
                "pattern": policy.pattern,
                "apply-to": policy.apply_to,
                "definition": dict(policy.definition),
                "priority": policy.priority,
            }
            for policy in layout.policies
        ],
        "exchanges": [
            {
                "name": exchange.name,
                "vhost": vhost,
                "type": exchange.kind,
                "durable": exchange.durable,
                "auto_delete": exchange.auto_delete,
                "internal": exchange.internal,
                "arguments": dict(exchange.arguments),
            }
            for exchange in layout.exchanges
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": vhost,
                "durable": queue.durable,
                "auto_delete": queue.auto_delete,
                "arguments": dict(queue.arguments),
            }
            for queue in layout.queues
        ],
        "bindings": [
            {
                "source": binding.source,
                "vhost": vhost,
                "destination": binding.destination,
                "destination_type": "queue" if binding.to_queue else "exchange",
                "routing_key": binding.routing_key,
                "arguments": dict(binding.arguments),
            }
            for binding in layout.bindings
        ],
    }


_SORTED_BY: Mapping[str, tuple[str, ...]] = {
    "users": ("name",),
    "vhosts": ("name",),
    "permissions": ("vhost", "user"),
    "topic_permissions": ("vhost", "user", "exchange"),
    "policies": ("vhost", "name"),
    "exchanges": ("vhost", "name"),
    "queues": ("vhost", "name"),
    "bindings": ("vhost", "source", "destination_type", "destination", "routing_key"),
}


def comparable(exported: Mapping[str, Any]) -> dict[str, Any]:
    """A broker's export without what differs from version to version, in one order: for comparing two of them.

    Versions, cluster names, and properties that only some versions write are left out.
    """
    found: dict[str, Any] = {}
    for section, keys in _SORTED_BY.items():
        wanted = _KEPT.get(section)
        items = [
            {
                name: _plain(name, value)
                for name, value in item.items()
                if (wanted is None or name in wanted) and (name, value) != ("internal", False)
            }
            for item in exported.get(section, [])
        ]
        found[section] = sorted(items, key=lambda item: tuple(str(item.get(key)) for key in keys))
    return found


_KEPT: Mapping[str, frozenset[str]] = {
    "users": frozenset({"name", "password_hash", "hashing_algorithm", "tags"}),
    "vhosts": frozenset({"name"}),
    "queues": frozenset({"name", "vhost", "durable", "auto_delete", "arguments"}),
}


def _plain(name: str, value: Any) -> Any:
    if name == "tags":  # a list since 3.9, a text before
        return sorted(value.split(",")) if isinstance(value, str) and value else sorted(value or [])
    return value


def _user(user: User, algorithm: Hashing) -> dict[str, Any]:
    hashed = "" if user.password is None else password_hash(user.password.reveal(), algorithm=algorithm)
    return {
        "name": user.name,
        "password_hash": hashed,
        "hashing_algorithm": f"rabbit_password_hashing_{algorithm}",
        "tags": list(user.tags),
        "limits": {},
    }
