"""Names that are the broker's own."""

from __future__ import annotations

from eventbus._errors import AccessRefused
from eventbus._topology import Exchange

GENERATED = "amq.gen-"
"""Begins the names that brokers give to queues."""

_RESERVED = "amq."

PREDECLARED = (
    Exchange(name="amq.direct", kind="direct"),
    Exchange(name="amq.fanout", kind="fanout"),
    Exchange(name="amq.topic", kind="topic"),
    Exchange(name="amq.headers", kind="headers"),
    Exchange(name="amq.match", kind="headers"),
)


def refuse_reserved(what: str, name: str) -> None:
    """AccessRefused when the name is one that only the broker gives."""
    if name.startswith(_RESERVED):
        raise AccessRefused(f"{what} {name!r}: names that begin with {_RESERVED!r} are the broker's own")
