"""``--management`` and who logs in there: shared by the commands that look at a broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eventbus.cli import from_environment, url_option

if TYPE_CHECKING:
    from eventbus_rabbitmq import RabbitMQOptions

    from eventbus_rabbitmq_admin._management import Management

F = TypeVar("F", bound=Callable[..., Any])


def management_options() -> Callable[[F], F]:
    """``--url`` (the broker, with the user who may administrate it) and ``--management``."""

    def decorate(function: F) -> F:
        management = click.option(
            "--management",
            metavar="URL",
            envvar="EVENTBUS_MANAGEMENT",
            help="The management API; default: the broker's host, port 15672 (http), or 15671 (https) for amqps.",
        )
        return url_option()(management(function))

    return decorate


def broker_options(url: str) -> RabbitMQOptions:
    """What the URL of a RabbitMQ says."""
    from eventbus_rabbitmq import RabbitMQTransport

    return RabbitMQTransport.from_url(url).options


def open_management(options: RabbitMQOptions, management: str | None) -> Management:
    """The management API of a broker, as the user of its URL or of EVENTBUS_MANAGEMENT_USER and ..._PASSWORD."""
    from eventbus import ConfigurationError, Credentials, Secret
    from eventbus_rabbitmq_admin._management import Management

    login = options.credentials if isinstance(options.credentials, Credentials) else options.credentials()
    user = from_environment("EVENTBUS_MANAGEMENT_USER") or login.user
    password = from_environment("EVENTBUS_MANAGEMENT_PASSWORD")
    if options.auth_mechanism == "external" and password is None:
        raise ConfigurationError(
            "the management API takes no client certificate: set EVENTBUS_MANAGEMENT_USER and "
            "EVENTBUS_MANAGEMENT_PASSWORD (or ..._PASSWORD_FILE)"
        )
    host = options.hosts[0][0]
    host = f"[{host}]" if ":" in host else host
    url = management or (f"https://{host}:15671" if options.tls is not None else f"http://{host}:15672")
    return Management(url, user=user, password=Secret(password) if password else login.password, tls=options.tls)
