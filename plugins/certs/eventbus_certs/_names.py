"""Names in certificates: of hosts, of addresses, and of users."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from eventbus import ConfigurationError

# X.520 sets it, and verifiers hold to it.
_MAX_COMMON_NAME = 64
# An underscore is in no host name of the standards, and in many of container networks.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_MAX_HOST = 253


def alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """Host names and addresses as a certificate has them, each once; ``DNS:`` and ``IP:`` before them are optional.

    :raises ConfigurationError: one is neither, or is not of the kind that it says.
    """
    if isinstance(names, str):  # would be taken letter by letter
        raise ConfigurationError(f"names is a list of names, not the one text {names!r}")
    return list(dict.fromkeys(_alternative(text.strip()) for text in names))


def host_subject(names: Sequence[x509.GeneralName]) -> x509.Name:
    """The subject of a host's certificate: for people only, verifiers look at the alternative names."""
    texts = [str(name.value) for name in names]
    fitting = (text for text in texts if len(text) <= _MAX_COMMON_NAME)
    return subject_of(next(fitting, "server"))


def subject_of(text: str) -> x509.Name:
    """A subject of this common name.

    :raises ConfigurationError: it cannot be one.
    """
    if not text.strip() or not text.isprintable() or len(text.encode()) > _MAX_COMMON_NAME:
        raise ConfigurationError(
            f"{text!r} cannot be the common name of a certificate: that is 1 to {_MAX_COMMON_NAME} bytes of printable "
            "text"
        )
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(text: str) -> x509.GeneralName:
    kind, colon, rest = text.partition(":")
    said = kind.upper() if colon and kind.upper() in ("DNS", "IP") else None
    name = rest.strip() if said else text
    address = _address(name)
    if address is not None and said == "DNS":
        raise ConfigurationError(f"{name} is an address, and no verifier takes it as a name: write IP:{name}")
    if address is not None:
        return x509.IPAddress(address)
    if said == "IP":
        raise ConfigurationError(f"{name!r} is not an IP address")
    return x509.DNSName(_host(name))


def _host(name: str) -> str:
    try:
        ascii_name = name.encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    labels = ascii_name.removeprefix("*.").split(".")
    # What ends in a number is a mistyped address: no name of a host does.
    good = all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()
    if not good or len(ascii_name) > _MAX_HOST:
        raise ConfigurationError(f"{name!r} is neither a host name nor an IP address")
    return ascii_name


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if "%" in text:  # the zone of a link-local address is this machine's own affair
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
