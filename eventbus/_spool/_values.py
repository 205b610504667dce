"""The spool as values: what an application says of it, and what health shows."""

from __future__ import annotations

from typing import Literal

import msgspec

from eventbus._errors import ConfigurationError
from eventbus._plugins import transport_from
from eventbus.transport import Transport

DEFAULT_SERVICE = "eventbus"
WEEK = 7 * 86400.0


class _Store(msgspec.Struct, frozen=True):
    store: str | Transport


class Spool(_Store, frozen=True, kw_only=True):
    """Where a bus keeps its events while the broker is away: ``EventBus(url, spool="sqlite:///spool.db")``.

    ``store`` is the URL of a durable transport, or one itself. All buses of one service may share it: one of them at a
    time sends what is in it. ``queue`` is the name of its queue in the store (by default ``<service>.spool``); buses of
    different brokers need different ones. ``max_messages`` bounds their number, past which publishing ends with
    NotSent; ``max_age`` (seconds) is how long they are kept: older ones are dropped, with a warning. ``volatile=True``
    takes a store that does not outlive the process, for tests.
    """

    queue: str | None = None
    max_messages: int = 100_000
    max_age: float = WEEK
    volatile: bool = False

    def __post_init__(self) -> None:
        if self.max_messages < 1 or self.max_age <= 0:
            raise ConfigurationError("a spool wants max_messages >= 1 and max_age > 0")
        if self.queue is not None and not 0 < len(self.queue.encode()) <= 200:
            raise ConfigurationError("the queue of a spool is a name of 1 to 200 bytes")

    def __repr__(self) -> str:
        # Without the URL: somebody may have written a password into it.
        return f"Spool(queue={self.queue!r}, max_messages={self.max_messages}, max_age={self.max_age:g})"


class SpoolHealth(msgspec.Struct, frozen=True, kw_only=True):
    """State of a spool.

    ``state`` is ``idle`` (events go straight to the broker), ``keeping`` (the broker is away, and events go into the
    spool) or ``draining`` (the broker is there, what is in the spool is being sent, and new events go behind it).
    ``messages`` is how many are in it, of all buses that share it, as last seen. ``oldest`` is the age of the oldest in
    seconds; None where there is none, or another bus is sending. The rest counts since this bus was started: events
    ``kept`` in the spool and ``sent`` from it, ``expired`` ones dropped, and ``dead_lettered`` ones. ``error`` is what
    is wrong with the store.
    """

    state: Literal["idle", "keeping", "draining"]
    messages: int = 0
    oldest: float | None = None
    kept: int = 0
    sent: int = 0
    expired: int = 0
    dead_lettered: int = 0
    error: str | None = None


class SpoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A spool with its transport found and its queue named."""

    transport: Transport
    queue: str
    max_messages: int
    max_age: float


def settings_of(spool: str | Transport | Spool, service: str | None) -> SpoolSettings:
    """What a bus of ``service`` needs to open its spool.

    :raises ConfigurationError: the store is unknown, or would not keep what it is given.
    """
    said = spool if isinstance(spool, Spool) else Spool(spool)
    transport = transport_from(said.store) if isinstance(said.store, str) else said.store
    if not isinstance(transport, Transport):
        raise ConfigurationError(f"a spool is given a URL, a transport or a Spool, not {type(said.store).__name__}")
    if not transport.capabilities.durable and not said.volatile:
        raise ConfigurationError(
            "this spool would not outlive the process, so what it keeps could be lost: use a durable store such as "
            "sqlite:///spool.db, or Spool(..., volatile=True) in a test"
        )
    return SpoolSettings(
        transport=transport,
        queue=said.queue or f"{service or DEFAULT_SERVICE}.spool",
        max_messages=said.max_messages,
        max_age=said.max_age,
    )
