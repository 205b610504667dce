"""Finding transports, middleware, codecs and commands that installed distributions bring, by entry point.

Found is not enabled: nothing is imported until it is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from eventbus._errors import ConfigurationError, UnknownTransport

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

TRANSPORTS = "eventbus.transports"
MIDDLEWARE = "eventbus.middleware"
CODECS = "eventbus.codecs"
CLI = "eventbus.cli"

# What to install for the names that our own distributions bring.
_KNOWN = {
    (TRANSPORTS, "amqp"): "eventbus[rabbitmq]",
    (TRANSPORTS, "amqps"): "eventbus[rabbitmq]",
    (TRANSPORTS, "sqlite"): "eventbus[sqlite]",
    (TRANSPORTS, "memory"): "eventbus[memory]",
    (MIDDLEWARE, "prometheus"): "eventbus[prometheus]",
}


def names(group: str) -> set[str]:
    """What is installed under an entry-point group, without importing any of it."""
    from importlib.metadata import entry_points

    return {point.name for point in entry_points(group=group)}


def load(group: str, name: str, error: type[ConfigurationError] = ConfigurationError) -> Any:
    """Import what ``name`` of an entry-point ``group`` stands for.

    :raises ConfigurationError: (or ``error``) nothing installed has this name, with what is installed and
        what to install; or two distributions have it; or its import fails.
    """
    from importlib.metadata import entry_points  # costs 20 ms, which a bus with a transport object never pays

    found = _distinct(entry_points(group=group, name=name))
    what = group.rpartition(".")[2].removesuffix("s")
    if not found:
        installed = ", ".join(sorted({point.name for point in entry_points(group=group)})) or "none"
        advice = _KNOWN.get((group, name))
        hint = f'; install it with: pip install "{advice}"' if advice else ""
        raise error(f"no {what} named {name!r} is installed (installed: {installed}){hint}")
    if len(found) > 1:
        owners = " and ".join(sorted(_owner(point) for point in found))
        raise error(
            f"the {what} {name!r} is provided by {owners}; uninstall one, or pass an object instead of the name"
        )
    try:
        return found[0].load()
    except ImportError as cause:
        raise error(
            f"the {what} {name!r} of {_owner(found[0])} cannot be imported: {cause}; reinstall that distribution"
        ) from cause


def _distinct(points: Any) -> list[EntryPoint]:
    # An editable install beside a wheel lists the same distribution twice.
    return list({(_owner(point), point.value): point for point in points}.values())


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*):")


def transport_from(url: str) -> Any:
    """The transport for a URL, found by its scheme.

    :raises ConfigurationError: the text is no URL, or what the transport says of it. Never shows the URL,
        because it may hold a password.
    """
    match = _SCHEME.match(url.strip())
    if match is None:
        raise ConfigurationError(
            "a bus is given a URL such as amqp://host/vhost, sqlite:///bus.db or memory://, and this text has no scheme"
        )
    made = load(TRANSPORTS, match[1].lower(), UnknownTransport)
    return cast("Callable[[str], Any]", made.from_url)(url.strip())
