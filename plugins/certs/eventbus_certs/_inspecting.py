"""What certificates say, as values; and bundles of authorities."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from eventbus import CertificateError, ConfigurationError
from eventbus_certs._files import NewFile, create, replace
from eventbus_certs._issued import chain_pem
from eventbus_certs._keys import key_kind
from eventbus_certs._reading import extended_usages, general_names, is_authority, read_all

_USAGES = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}
_KINDS: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.UniformResourceIdentifier: "URI",
    x509.RFC822Name: "email",
}


class CertificateInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What one certificate says.

    Times are in UTC; ``days_left`` are whole ones, below 0 when it has expired. ``names`` are written as in
    ``DNS:localhost``, ``usages`` are ``"server"``, ``"client"`` or numbers of other ones. ``serial`` and
    ``fingerprint`` (SHA-256) are hexadecimal. ``key_type`` is ``"ecdsa"``, ``"rsa"`` or another, ``key_size`` its bits.
    """

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
    key_type: str
    key_size: int
    fingerprint: str


def inspect(file: Path | str) -> list[CertificateInfo]:
    """What the certificates of a file say, in their order.

    :raises CertificateError: there are none in it.
    """
    return [info_of(certificate, str(file)) for certificate in read_all(Path(file))]


def info_of(certificate: x509.Certificate, file: str = "") -> CertificateInfo:
    """What a certificate says."""
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    key_type, key_size = key_kind(certificate)
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    return CertificateInfo(
        file=file,
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        common_name=str(common[0].value) if common else "",
        names=tuple(_name(name) for name in general_names(certificate)),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        days_left=math.floor(left.total_seconds() / 86400),
        is_ca=is_authority(certificate),
        usages=tuple(_USAGES.get(usage, usage.dotted_string) for usage in extended_usages(certificate)),
        key_type=key_type,
        key_size=key_size,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def bundle(files: Iterable[Path | str], out: Path | str, *, overwrite: bool = True) -> int:
    """Write the authorities of several files into one, each once; gives how many.

    This is how an authority is replaced without an outage: first everybody trusts the old and the new one, then all
    certificates are renewed by the new one, then everybody trusts the new one alone.

    :raises ConfigurationError: a certificate is not an authority's, a file cannot be read or written, or ``out`` is
        something else than certificates now.
    """
    found: dict[bytes, x509.Certificate] = {}
    for file in files:
        for certificate in read_all(Path(file)):
            if not is_authority(certificate):
                raise ConfigurationError(
                    f"{file}: {certificate.subject.rfc4514_string()!r} is not an authority, and has no place among "
                    "those that are trusted: leave it out"
                )
            found.setdefault(certificate.fingerprint(hashes.SHA256()), certificate)
    if not found:
        raise ConfigurationError("no authority was given for the bundle")
    target = Path(out)
    _refuse_a_key(target)
    new = [NewFile(target, chain_pem(tuple(found.values())))]
    (replace if overwrite else create)(new)
    return len(found)


def _refuse_a_key(target: Path) -> None:
    """A slip such as ``--out ca.key`` must not cost an authority."""
    try:
        holds_key = b"PRIVATE KEY" in target.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise CertificateError(f"{target} cannot be written: {error.strerror}") from error
    if holds_key:
        raise ConfigurationError(f"{target} holds a private key, and is not overwritten: write the bundle elsewhere")


def _name(name: x509.GeneralName) -> str:
    kind = _KINDS.get(type(name))
    return f"{kind}:{name.value}" if kind else f"other:{type(name).__name__}"
