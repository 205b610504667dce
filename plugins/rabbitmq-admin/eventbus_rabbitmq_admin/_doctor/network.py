"""From the name to the first words of the broker: resolution, port, TLS, and what it says before any login."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from eventbus_rabbitmq import RabbitMQOptions
from eventbus_rabbitmq._errors import connection_error
from pamqp import commands
from pamqp.frame import unmarshal

from eventbus import ConfigurationError, TLSConfig
from eventbus_rabbitmq_admin._doctor.findings import Finding, failed, passed, warned

_HEADER = b"AMQP\x00\x00\x09\x01"
_MAX_START = 1 << 20
OLDEST = (3, 10)
WARN_DAYS = 30


class Greeting:
    """What a broker says of itself in ``connection.start``."""

    def __init__(self, properties: Mapping[str, Any], mechanisms: tuple[str, ...]) -> None:
        self.properties = properties
        self.mechanisms = mechanisms

    @property
    def version(self) -> str:
        """Such as ``3.10.8``."""
        return str(self.properties.get("version", ""))


def look(options: RabbitMQOptions, timeout: float) -> Iterator[Finding]:
    """The findings of every host of the URL."""
    for host, port in options.hosts:
        yield from _look(host, port, options, timeout)


def _look(host: str, port: int, options: RabbitMQOptions, timeout: float) -> Iterator[Finding]:
    where = f"{host}:{port}"
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        yield failed(f"name {host}", "cannot be resolved", "check the spelling of the host, and this machine's DNS")
        return
    yield passed(f"name {host}", ", ".join(sorted(map(str, addresses))))
    try:
        plain = socket.create_connection((host, port), timeout=timeout)
    except OSError as error:
        text = "nothing listens there" if isinstance(error, ConnectionRefusedError) else f"no connection: {error}"
        yield failed(f"port {where}", text, "is RabbitMQ running there, and does no firewall stand between?")
        return
    yield passed(f"port {where}", "takes connections")
    with plain:
        if options.tls is None:
            yield from _greeted(plain, where, options)
            return
        yield from _over_tls(plain, host, where, options, options.tls)


def _over_tls(
    plain: socket.socket, host: str, where: str, options: RabbitMQOptions, tls: TLSConfig
) -> Iterator[Finding]:
    try:
        context = tls.context()
    except ConfigurationError as error:
        yield failed("our TLS files", str(error), "mend the files, or name others in the URL")
        return
    ends = tls.expires()
    if ends is not None:
        yield _expiry("our certificate", ends)
    try:
        secured = context.wrap_socket(plain, server_hostname=tls.server_name or host)
    except (OSError, ssl.SSLError) as error:
        ours, _ = connection_error(error, host, options.hosts[0][1], "the user", options.vhost, opening=True)
        yield failed(
            f"TLS {where}", str(ours), "is it the port for TLS? eventbus certs inspect shows what a certificate says"
        )
        return
    with secured:
        cipher = secured.cipher()
        yield passed(f"TLS {where}", f"{secured.version()}, {cipher[0] if cipher else 'unknown cipher'}")
        certificate = secured.getpeercert() or {}
        names = ", ".join(str(entry[1]) for entry in certificate.get("subjectAltName", ()))
        ends = ssl.cert_time_to_seconds(str(certificate["notAfter"])) if "notAfter" in certificate else None
        if ends is not None:
            yield _expiry(f"certificate of {where} (for {names or 'no name'})", ends)
        yield from _greeted(secured, where, options)


def _expiry(what: str, ends: float) -> Finding:
    days = int((ends - time.time()) // 86400)
    until = f"{days} days left, until {datetime.fromtimestamp(ends, UTC):%Y-%m-%d}"
    if days < WARN_DAYS:
        return warned(what, until, "renew it: eventbus certs renew, or whoever issued it")
    return passed(what, until)


def _greeted(connection: socket.socket, where: str, options: RabbitMQOptions) -> Iterator[Finding]:
    try:
        greeting = read_greeting(connection)
    except (OSError, ValueError) as error:
        what = "ended the connection before it said who it is"
        if isinstance(error, ssl.SSLError) or (options.tls is not None and isinstance(error, OSError)):
            ours, _ = connection_error(error, *options.hosts[0], "the user", options.vhost, opening=True)
            yield failed(f"AMQP {where}", str(ours), "does the broker want another client certificate?")
            return
        yield failed(
            f"AMQP {where}", f"{what} ({error})", "is it RabbitMQ, and a port without TLS? (amqps:// speaks TLS)"
        )
        return
    yield _version(where, greeting)
    wanted = options.auth_mechanism.upper()
    if wanted in greeting.mechanisms:
        yield passed(f"mechanism {where}", f"offers {', '.join(greeting.mechanisms)}; we use {wanted}")
    else:
        advice = "set auth_mechanism=external in the URL" if wanted == "PLAIN" else (
            "enable rabbitmq_auth_mechanism_ssl at the broker, with auth_mechanisms.1 = EXTERNAL"
        )  # fmt: skip
        yield failed(f"mechanism {where}", f"offers {', '.join(greeting.mechanisms)}, and not {wanted}", advice)


def _version(where: str, greeting: Greeting) -> Finding:
    product = f"{greeting.properties.get('product', 'a broker')} {greeting.version}"
    capabilities = greeting.properties.get("capabilities")
    missing = [
        name
        for name in ("publisher_confirms", "basic.nack", "consumer_cancel_notify", "connection.blocked")
        if not (isinstance(capabilities, dict) and capabilities.get(name))
    ]
    number = tuple(int(part) for part in greeting.version.split(".")[:2] if part.isdigit())
    if missing or number < OLDEST:
        advice = "RabbitMQ 3.10 or newer is needed"
        return failed(f"broker {where}", f"{product}; lacks {', '.join(missing) or 'what came with 3.10'}", advice)
    if number < (4, 0):
        return warned(f"broker {where}", product, "RabbitMQ 3 gets no fixes any more: plan the move to 4.x")
    return passed(f"broker {where}", product)


def read_greeting(connection: socket.socket) -> Greeting:
    """Send AMQP's header and read ``connection.start``, the broker's first frame (AMQP 0-9-1, 2.2.4).

    :raises ValueError: it is something else. :raises OSError: the connection failed.
    """
    connection.sendall(_HEADER)
    head = _exactly(connection, 7)
    size = struct.unpack(">I", head[3:7])[0]
    if head[0] != 1 or size > _MAX_START:
        raise ValueError("its first bytes are no AMQP frame")
    _, _, frame = unmarshal(head + _exactly(connection, size + 1))
    if not isinstance(frame, commands.Connection.Start):
        raise ValueError("its first frame is another one")
    return Greeting(dict(frame.server_properties or {}), tuple(str(frame.mechanisms or "").split()))


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ValueError("it closed the connection")
        data += more
    return data
