"""The transport: a value made from a URL; its links do the work."""

from __future__ import annotations

import inspect
from typing import Self

import msgspec

from eventbus import ConfigurationError, CredentialsSource, TLSConfig
from eventbus.transport import AsyncLink, Capabilities, LinkSettings, StatusListener, SyncLink
from eventbus_rabbitmq._options import RabbitMQOptions
from eventbus_rabbitmq._url import parse_url


class RabbitMQTransport:
    """RabbitMQ, from 3.10: sync links on pika, async links on aio-pika. Found for ``amqp://`` and ``amqps://``."""

    def __init__(self, options: RabbitMQOptions) -> None:
        self.options = options

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The transport that an AMQP URL describes (docs/rabbitmq.md has its options).

        :raises ConfigurationError: what is wrong with the URL, without showing it.
        """
        return cls(parse_url(url))

    def secured(self, *, tls: TLSConfig | None, credentials: CredentialsSource | None) -> Self:
        """The same with TLS settings and credentials that no URL can say.

        :raises ConfigurationError: the URL is not for TLS, or says the same already.
        """
        changes: dict[str, object] = {}
        if tls is not None:
            if self.options.tls is None:
                raise ConfigurationError("tls=... needs an amqps:// URL")
            if self.options.tls != TLSConfig():
                raise ConfigurationError("tls=... says what the URL's TLS options have said before: give one of them")
            changes["tls"] = tls
        if credentials is not None:
            if inspect.iscoroutinefunction(credentials):
                raise ConfigurationError("credentials=... is a plain function: it runs in a thread of its own")
            if self.options.credentials != RabbitMQOptions().credentials:
                raise ConfigurationError("credentials=... says what the URL has said before: give one of them")
            changes["credentials"] = credentials
        return type(self)(msgspec.structs.replace(self.options, **changes))

    @property
    def capabilities(self) -> Capabilities:
        """What it promises."""
        return Capabilities(
            durable=True,
            processes=True,
            direct_reply=True,
            schedules=True,
            counts_crashes=self.options.queue_type == "quorum",
        )

    def sync_link(self, settings: LinkSettings, on_status: StatusListener) -> SyncLink:
        """A link for threads."""
        from eventbus_rabbitmq._sync_link import RabbitMQSyncLink  # brings in pika, which async users do without

        return RabbitMQSyncLink(self.options, settings, on_status)

    def async_link(self, settings: LinkSettings, on_status: StatusListener) -> AsyncLink:
        """A link for the running event loop."""
        from eventbus_rabbitmq._async_link import RabbitMQAsyncLink  # brings in aio-pika

        return RabbitMQAsyncLink(self.options, settings, on_status)

    def __repr__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.options.hosts)
        return f"<RabbitMQTransport {hosts} vhost={self.options.vhost!r}>"
