"""What is wrong with a certificate, found before anything is sent: the broker's own answer is one alert number.

Imported when a context is made: ``cryptography`` is an extra of the core and costs 60 ms.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from eventbus._errors import CertificateError, ConfigurationError
from eventbus._secrets import Secret

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID
except ImportError as error:
    raise ConfigurationError(
        'TLS needs the package cryptography; install it with: pip install "eventbus[tls]"'
    ) from error

log = logging.getLogger("eventbus.tls")

_MAX_DEPTH = 10


class Names(NamedTuple):
    """What texts call a certificate and its key."""

    certificate: str
    key: str


def read(pem: bytes, name: str) -> list[x509.Certificate]:
    """The certificates of a PEM text, at least one.

    :raises CertificateError: there are none.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "a private key, where a certificate belongs" if b"PRIVATE KEY" in pem else "no certificate in PEM format"
        raise CertificateError(f"{name} holds {what}") from error


def expires(pem: bytes, name: str) -> float:
    """When the first of these certificates ends, in Unix seconds."""
    return min(certificate.not_valid_after_utc.timestamp() for certificate in read(pem, name))


def check_authorities(pem: bytes, name: str, now: float) -> None:
    """Check a bundle of authorities: one that is valid is enough, for a bundle outlives some of its members.

    :raises CertificateError: there is none.
    """
    found = read(pem, name)
    if all(certificate.not_valid_after_utc.timestamp() < now for certificate in found):
        raise CertificateError(
            f"the CA in {name} ({_who(found[0])}) expired on {found[0].not_valid_after_utc:%Y-%m-%d}: "
            "nothing signed by it can be verified; get its successor"
        )


def check_client(
    certificate: bytes, key: bytes, password: Secret | None, ca: bytes | None, names: Names, now: float
) -> float:
    """Check our own certificate and key. Gives when the certificate ends, in Unix seconds.

    :raises CertificateError: what is wrong with them.
    """
    chain = _understood(certificate, names.certificate)
    _check_key(chain[0], _key(key, password, names.key), names)
    for member in chain:
        _check_dates(member, names.certificate, now)
    _check_usage(chain[0], names.certificate)
    if ca is not None:
        _check_chain(chain, read(ca, "the CA"), names.certificate)
    return min(member.not_valid_after_utc.timestamp() for member in chain)


def _understood(pem: bytes, name: str) -> list[x509.Certificate]:
    """Certificates that are parsed to the end: keys and extensions are only looked at when they are asked for."""
    found = read(pem, name)
    try:
        for certificate in found:
            certificate.extensions  # noqa: B018
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{name} holds a certificate that cannot be understood: {error}") from error
    return found


def _key(pem: bytes, password: Secret | None, name: str) -> object:
    encrypted = b"ENCRYPTED" in pem
    if password is not None and not (encrypted and password.reveal()):
        password = None  # one that a plain key does not need is no mistake
    try:
        return serialization.load_pem_private_key(pem, password.reveal().encode() if password else None)
    except TypeError as error:
        raise CertificateError(
            f"the private key {name} is encrypted: give key_password (in a URL: key_password_file)"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise CertificateError(f"the private key {name} cannot be decrypted with key_password") from error
        raise CertificateError(f"{name} holds no private key in PEM format") from error


def _check_key(certificate: x509.Certificate, key: object, names: Names) -> None:
    ours = key.public_key()  # type: ignore[attr-defined]
    if ours != certificate.public_key():
        raise CertificateError(
            f"the private key {names.key} does not belong to the certificate {names.certificate} ({_who(certificate)})"
        )


def _check_dates(certificate: x509.Certificate, name: str, now: float) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends.timestamp() < now:
        raise CertificateError(
            f"the certificate {_who(certificate)} in {name} expired on {ends:%Y-%m-%d %H:%M} UTC: renew it"
        )
    if begins.timestamp() > now:
        raise CertificateError(
            f"the certificate {_who(certificate)} in {name} is valid from {begins:%Y-%m-%d %H:%M} UTC, "
            "which is not yet: is this machine's clock right?"
        )


def _check_usage(certificate: x509.Certificate, name: str) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return  # good for everything
    if not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
        raise CertificateError(
            f"the certificate {_who(certificate)} in {name} is not made for clients (its extended key usage lacks "
            "clientAuth): issue one with: eventbus certs issue client"
        )


def _check_chain(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], name: str) -> None:
    current = chain[0]
    for _ in range(_MAX_DEPTH):
        if current in authorities or any(_signed_by(current, authority) for authority in authorities):
            return
        above = next((member for member in chain[1:] if member is not current and _signed_by(current, member)), None)
        if above is None:
            break
        current = above
    raise CertificateError(
        f"the certificate {_who(chain[0])} in {name} was signed by {current.issuer.rfc4514_string()!r}, which is not "
        "among the given CAs; if the broker trusts another CA for clients, name it with client_ca (in a URL: "
        "client_cafile)"
    )


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _who(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string() or f"serial {certificate.serial_number:x}")
