"""Options of the transport, as a value."""

from __future__ import annotations

from typing import Literal

import msgspec

from eventbus import Credentials, CredentialsSource, TLSConfig
from eventbus._supervisor import Backoff

Mechanism = Literal["plain", "external"]
Declare = Literal["create", "passive", "none"]
QueueType = Literal["quorum", "classic"]


class RabbitMQOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a broker, and what to declare there. Times are seconds.

    ``hosts`` are tried in random order. ``credentials`` may be a function, asked in a thread of its own at every
    attempt to connect and before they expire; with ``auth_mechanism="external"`` they are not used, for the broker
    takes the user from our certificate. ``channel_max`` bounds the channels of a sync link's connection (0: the
    broker's bound); aiormq, under async links, always takes the broker's.

    ``consumer_timeout`` is how long the broker lets a delivery stay unsettled, by its configuration: after half of it
    there is a warning.

    ``queue_exchange`` is where copies for retries, dead letters and replies are published, by the name of their queue:
    the default exchange (empty), or a topic exchange of this name that every queue of ours is then bound to. Who may
    write to the default exchange reaches every queue of the virtual host; to an exchange of its own, topic permissions
    apply. All services of a virtual host must agree on it.
    """

    hosts: tuple[tuple[str, int], ...] = (("127.0.0.1", 5672),)
    vhost: str = "/"
    credentials: CredentialsSource = Credentials()
    auth_mechanism: Mechanism = "plain"
    tls: TLSConfig | None = None
    heartbeat: int = 10
    name: str | None = None
    connect_timeout: float = 10.0
    queue_type: QueueType = "quorum"
    declare: Declare = "create"
    queue_exchange: str = ""
    channel_max: int = 0
    consumer_timeout: float = 1800.0
    backoff: Backoff = Backoff()
