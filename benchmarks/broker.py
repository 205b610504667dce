"""The broker to measure on: the user's own, or a private one with a plain and a TLS listener."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Target:
    """A broker. ``name`` is for the reader: never the URL, which may hold a password."""

    url: str
    name: str
    tls_url: str | None = None


@contextmanager
def target(given: str | None, *, needed: bool = True) -> Iterator[Target]:
    """The broker at the URL that is given; without one, a RabbitMQ that is started and stopped here.

    Where no broker is ``needed`` none is started. A broker that is given is measured by its URL alone, plain or TLS.
    """
    if given is not None:
        yield Target(given, given.partition(":")[0])
    elif not needed:
        yield Target("memory://benchmarks", "memory")
    else:
        with ExitStack() as stack:
            yield _private(stack)


def _private(stack: ExitStack) -> Target:
    from eventbus_rabbitmq.local_broker import LocalBroker, LocalTLS

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eventbus-benchmarks-")))
    tls = None
    try:
        import trustme
    except ImportError:
        pass  # without certificates there is no TLS listener, and nothing is measured over TLS
    else:
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        server = authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
        authority.cert_pem.write_to_path(folder / "ca.pem")
        server.cert_chain_pems[0].write_to_path(folder / "server.pem")
        server.private_key_pem.write_to_path(folder / "server-key.pem")
        tls = LocalTLS(cafile=folder / "ca.pem", certfile=folder / "server.pem", keyfile=folder / "server-key.pem")
    broker = stack.enter_context(LocalBroker(tls=tls))
    name = f"RabbitMQ {broker.version} (private, on this machine)"
    if tls is None:
        return Target(broker.url, name)
    return Target(broker.url, name, f"{broker.tls_url}?cacertfile={quote(str(tls.cafile))}")
