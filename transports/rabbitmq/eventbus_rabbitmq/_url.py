"""AMQP URLs, parsed with an allow-list. The user's URL is never handed to a driver: both have switches in it that
turn TLS verification off.

Source: https://www.rabbitmq.com/docs/uri-spec and .../uri-query-parameters.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from eventbus import CertificateError, ConfigurationError, Credentials, Secret, TLSConfig
from eventbus_rabbitmq._options import RabbitMQOptions

log = logging.getLogger("eventbus.rabbitmq")

PORTS = {"amqp": 5672, "amqps": 5671}


def parse_url(url: str) -> RabbitMQOptions:
    """The options that a URL says.

    :raises ConfigurationError: what is wrong with it, without showing it: it may hold a password.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in PORTS:
        raise ConfigurationError("an AMQP URL begins with amqp:// or amqps://")
    rest, _, fragment = rest.partition("#")
    if fragment:
        raise ConfigurationError("an AMQP URL has no '#' part; a '#' in a password is written %23")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    userinfo, at, hosts = authority.rpartition("@")
    if "@" in path or ("@" in query and not at):
        # Else the front of a password with a '/' or '?' in it would be taken, and told of, as a host's port.
        raise ConfigurationError("reserved characters in user or password are percent-encoded: / is %2F, ? is %3F")
    values: dict[str, Any] = {"hosts": _hosts(hosts, PORTS[scheme]), "vhost": _vhost(path)}
    if at:
        user, colon, password = userinfo.partition(":")
        values["credentials"] = Credentials(unquote(user) or "guest", Secret(unquote(password) if colon else ""))
    tls = _query(query, values)
    if scheme == "amqps":
        if "key" in tls and "certificate" not in tls:
            raise ConfigurationError("keyfile is given without certfile")
        values["tls"] = TLSConfig(**tls)
    elif tls:
        raise ConfigurationError(f"{', '.join(sorted(tls))}: TLS options need amqps://")
    else:
        _warn_of_plaintext(values["hosts"])
    options = RabbitMQOptions(**values)
    if options.auth_mechanism == "external" and scheme == "amqp":
        raise ConfigurationError("auth_mechanism=external logs in by a client certificate, which needs amqps://")
    return options


def _hosts(text: str, default: int) -> tuple[tuple[str, int], ...]:
    found = []
    for item in text.split(","):
        host, port = item, ""
        if item.startswith("["):
            host, bracket, port = item[1:].partition("]")
            if not bracket or (port and not port.startswith(":")):
                raise ConfigurationError("an IPv6 address in a URL stands in brackets: [::1]:5672")
            port = port[1:]
        elif ":" in item:
            host, _, port = item.partition(":")
        host = unquote(host)
        if not host or any(c.isspace() for c in host):
            raise ConfigurationError("an AMQP URL names a host: amqp://user:password@host/vhost")
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ConfigurationError(f"the port of host {host!r} is no number from 1 to 65535")
        found.append((host, int(port) if port else default))
    return tuple(found)


def _vhost(path: str) -> str:
    if "/" in path:
        raise ConfigurationError("the virtual host is one path segment; a '/' in its name is written %2F")
    return unquote(path) or "/"


def _number(low: int, high: int) -> Callable[[str, str], int]:
    def convert(name: str, text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ConfigurationError(f"{name} is a number from {low} to {high}")
        return int(text)

    return convert


def _one_of(*allowed: str) -> Callable[[str, str], str]:
    def convert(name: str, text: str) -> str:
        if text not in allowed:
            raise ConfigurationError(f"{name} is one of {', '.join(allowed)}")
        return text

    return convert


def _verify(name: str, text: str) -> str:
    if text != "verify_peer":
        raise ConfigurationError(
            "TLS without verification would give the password to whoever answers, so no URL switches it off: "
            "verify_none is not taken (only TLSConfig in code can); for a broker with a CA of its own, name that CA "
            "with cacertfile=..."
        )
    return text


def _plain(name: str, text: str) -> str:
    if not text:
        raise ConfigurationError(f"{name} is empty")
    return text


def _mechanism(name: str, text: str) -> str:
    return _one_of("plain", "external")(name, text.lower())


def _password_file(name: str, text: str) -> Callable[[], Secret]:
    def password() -> Secret:
        try:
            return Secret(Path(text).read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise CertificateError(f"{name}: {text} cannot be read: {error}") from error

    return password


# Query name: (field of the options, how its text is read); "tls." fields belong to TLSConfig.
_KNOWN: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "heartbeat": ("heartbeat", _number(0, 65535)),
    "channel_max": ("channel_max", _number(0, 65535)),
    "consumer_timeout": ("consumer_timeout", _number(1, 30 * 86400)),
    "name": ("name", _plain),
    "connection_timeout": ("connect_timeout", lambda n, t: _number(1, 3_600_000)(n, t) / 1000),
    "queue_type": ("queue_type", _one_of("quorum", "classic")),
    "declare": ("declare", _one_of("create", "passive", "none")),
    "queue_exchange": ("queue_exchange", _plain),
    "auth_mechanism": ("auth_mechanism", _mechanism),
    "cacertfile": ("tls.ca", _plain),
    "cafile": ("tls.ca", _plain),
    "certfile": ("tls.certificate", _plain),
    "keyfile": ("tls.key", _plain),
    "key_password_file": ("tls.key_password", _password_file),
    "client_cafile": ("tls.client_ca", _plain),
    "tls_version": ("tls.minimum_version", _one_of("1.2", "1.3")),
    "ciphers": ("tls.ciphers", _plain),
    "server_name_indication": ("tls.server_name", _plain),
    "verify": ("", _verify),
}


def _query(query: str, values: dict[str, Any]) -> dict[str, Any]:
    tls: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=32)
    except ValueError:
        raise ConfigurationError("the part behind '?' is not of the form name=value&name=value") from None
    seen: dict[str, str] = {}
    for name, text in pairs:
        if name not in _KNOWN:
            raise ConfigurationError(f"unknown URL option {name[:40]!r}; known are {', '.join(sorted(_KNOWN))}")
        field, convert = _KNOWN[name]
        value = convert(name, text)
        if (field or name) in seen:
            raise ConfigurationError(f"{name} says again what {seen[field or name]} has said before it")
        seen[field or name] = name
        if field.startswith("tls."):
            tls[field[4:]] = value
        elif field:
            values[field] = value
    return tls


def _warn_of_plaintext(hosts: tuple[tuple[str, int], ...]) -> None:
    for host, _ in hosts:
        if not is_loopback(host):
            log.warning("amqp:// to %s sends password and messages in clear text; use amqps://", host)


def is_loopback(host: str) -> bool:
    """Whether what is said to this host stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
