"""TLS handshakes over a pair of sockets, with a client that is as strict as OpenSSL can be."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import serialization
from eventbus_certs import CertificateAuthority, Issued

_TIMEOUT = 20


class Pair(NamedTuple):
    """Files of a certificate and of its key."""

    certificate: Path
    key: Path


class Talk(NamedTuple):
    """What each side of a handshake learned of the other."""

    seen_by_client: dict[str, Any]
    seen_by_server: dict[str, Any]


def saved(issued: Issued, folder: Path, stem: str = "server") -> Pair:
    """Its files."""
    return Pair(*issued.save(folder, stem))


def shake(
    ca: CertificateAuthority | Path,
    server: Pair,
    *,
    name: str = "localhost",
    client: Pair | None = None,
    mutual: bool = False,
) -> Talk:
    """Shake hands and say a word in each direction: with TLS 1.3, a client hears only then that it was refused.

    :raises ssl.SSLError: a side refuses the other; its own words, not the alert that the other one got.
    """
    own = ca.read_bytes() if isinstance(ca, Path) else ca.certificate.public_bytes(serialization.Encoding.PEM)
    roots = own.decode()
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.load_verify_locations(cadata=roots)
    ours.verify_flags |= ssl.VERIFY_X509_STRICT
    if client is not None:
        ours.load_cert_chain(client.certificate, client.key)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(server.certificate, server.key)
    if mutual:
        theirs.load_verify_locations(cadata=roots)
        theirs.verify_flags |= ssl.VERIFY_X509_STRICT
        theirs.verify_mode = ssl.CERT_REQUIRED
    return _talk(ours, theirs, name)


def _talk(ours: ssl.SSLContext, theirs: ssl.SSLContext, name: str) -> Talk:
    left, right = socket.socketpair()
    seen: dict[str, Any] = {}
    errors: dict[str, Exception] = {}

    def serve() -> None:
        right.settimeout(_TIMEOUT)
        try:
            with theirs.wrap_socket(right, server_side=True) as tls:
                seen["server"] = tls.getpeercert() or {}
                tls.sendall(b"hello")
                tls.recv(1)
        except (ssl.SSLError, OSError) as error:
            errors["server"] = error
        finally:
            right.close()

    thread = threading.Thread(target=serve)
    thread.start()
    left.settimeout(_TIMEOUT)
    try:
        with ours.wrap_socket(left, server_hostname=name) as tls:
            seen["client"] = tls.getpeercert() or {}
            if tls.recv(5) != b"hello":
                raise ConnectionResetError("the server said nothing")
            tls.sendall(b"x")
    except (ssl.SSLError, OSError) as error:
        errors["client"] = error
    finally:
        left.close()
        thread.join(_TIMEOUT)
    for side in ("client", "server"):
        if isinstance(errors.get(side), ssl.SSLCertVerificationError):
            raise errors[side]
    for side in ("server", "client"):
        if side in errors:
            raise errors[side]
    return Talk(seen["client"], seen["server"])
