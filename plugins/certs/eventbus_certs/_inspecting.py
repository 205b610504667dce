"""What certificates say, as values; and bundles of authorities."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from eventbus import CertificateError, ConfigurationError
from eventbus_certs._files import chain_pem, read, write

_USAGES = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}


class CertificateInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What one certificate says. Times are in UTC; ``days_left`` is below 0 when it has expired."""

    file: str
    subject: str
    issuer: str
    common_name: str
    names: tuple[str, ...]
    serial: str
    not_before: datetime
    not_after: datetime
    days_left: int
    is_ca: bool
    usages: tuple[str, ...]
    key: str
    fingerprint: str


def inspect(file: Path | str) -> list[CertificateInfo]:
    """What the certificates of a file say, in their order.

    :raises CertificateError: there are none in it.
    """
    return [_info(certificate, str(file)) for certificate in read_all(Path(file))]


def bundle(files: Iterable[Path | str], out: Path | str, *, overwrite: bool = True) -> int:
    """Write the authorities of several files into one, each once; gives how many.

    This is how an authority is replaced without an outage: first everybody trusts the old and the new one, then all
    certificates are issued anew, then everybody trusts the new one alone.

    :raises ConfigurationError: a certificate is not an authority's, or a file cannot be read or written.
    """
    found: dict[bytes, x509.Certificate] = {}
    for file in files:
        for certificate in read_all(Path(file)):
            if not _is_ca(certificate):
                raise ConfigurationError(
                    f"{file}: {certificate.subject.rfc4514_string()!r} is not an authority; trusted by mistake, it "
                    f"would be a "
                    "hole that nobody sees"
                )
            found.setdefault(certificate.fingerprint(hashes.SHA256()), certificate)
    if not found:
        raise ConfigurationError("no authority was given for the bundle")
    write(Path(out), chain_pem(tuple(found.values())), overwrite=overwrite)
    return len(found)


def read_all(file: Path) -> list[x509.Certificate]:
    """The certificates of a file, at least one."""
    data = read(file)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        what = "a private key" if b"PRIVATE KEY" in data else "no certificate in PEM format"
        raise CertificateError(f"{file} holds {what}") from error


def days_left(certificate: x509.Certificate) -> int:
    """Whole days until it ends; below 0 when it has."""
    return math.floor((certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds() / 86400)


def _info(certificate: x509.Certificate, file: str) -> CertificateInfo:
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return CertificateInfo(
        file=file,
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        common_name=str(common[0].value) if common else "",
        names=tuple(_names(certificate)),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        days_left=days_left(certificate),
        is_ca=_is_ca(certificate),
        usages=tuple(_USAGES.get(usage, usage.dotted_string) for usage in extended_usages(certificate)),
        key=_key(certificate),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _names(certificate: x509.Certificate) -> Iterable[str]:
    for name in general_names(certificate):
        yield f"IP:{name.value}" if isinstance(name, x509.IPAddress) else f"DNS:{name.value}"


def general_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """The names and addresses that it is for."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def extended_usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    """What it may be used for; empty is everything."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return []


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return type(key).__name__.strip("_")
