"""Options of the transport, as a value; and secrets that do not show."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Literal, NoReturn

import msgspec

from eventbus import ConfigurationError
from eventbus._supervisor import Backoff

Declare = Literal["create", "passive", "none"]
QueueType = Literal["quorum", "classic"]


class Secret:
    """Text that shows itself only when asked by :meth:`reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class Credentials(msgspec.Struct, frozen=True):
    """User and password for PLAIN authentication."""

    user: str = "guest"
    password: Secret = Secret("guest")


class TLSFiles(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files for TLS. ``server_name`` is verified instead of the host's name."""

    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    server_name: str | None = None

    def context(self) -> ssl.SSLContext:
        """A new context: made at every attempt to connect, so that replaced files are picked up.

        :raises ConfigurationError: a file is missing or is no certificate or key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        try:
            if self.cafile is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(self.cafile)
            if self.certfile is not None:
                # An encrypted key must not stop a service at a prompt for its password.
                context.load_cert_chain(self.certfile, self.keyfile, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"TLS files cannot be used (cacertfile={self.cafile}, certfile={self.certfile}, "
                f"keyfile={self.keyfile}): {error}"
            ) from error
        return context


class RabbitMQOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a broker, and what to declare there. Times are seconds.

    ``hosts`` are tried in random order. ``credentials`` may be a callable, asked at every attempt to connect; it is
    to be quick, for the link waits for it. ``channel_max`` bounds the channels of a sync link's connection (0: the
    broker's bound); aiormq, under async links, always takes the broker's.
    """

    hosts: tuple[tuple[str, int], ...] = (("127.0.0.1", 5672),)
    vhost: str = "/"
    credentials: Credentials | Callable[[], Credentials] = Credentials()
    tls: TLSFiles | None = None
    heartbeat: int = 10
    name: str | None = None
    connect_timeout: float = 10.0
    queue_type: QueueType = "quorum"
    declare: Declare = "create"
    channel_max: int = 0
    backoff: Backoff = Backoff()

    def login(self) -> Credentials:
        """The credentials for this attempt."""
        return self.credentials if isinstance(self.credentials, Credentials) else self.credentials()
