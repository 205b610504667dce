"""The authority: a root certificate that signs those of brokers and of clients.

Extensions follow RFC 5280, so that a verifier in strict mode (OpenSSL's ``-x509_strict``) takes them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Self

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from eventbus import CertificateError, ConfigurationError, Secret
from eventbus_certs._files import PrivateKey, chain_pem, key_pem, read, read_key, write

KeyType = Literal["ecdsa", "rsa"]

CA_DAYS = 3650
SERVER_DAYS = 397
CLIENT_DAYS = 90
# A verifier whose clock is a little behind must take a certificate that has just been made.
BACKDATED = timedelta(minutes=5)
MAX_COMMON_NAME = 64


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate with its key. ``chain`` is what stands above it, without the root."""

    certificate: x509.Certificate
    key: PrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    def save(self, folder: Path | str, stem: str, *, password: Secret | None = None, overwrite: bool = False) -> None:
        """Write ``<stem>.key`` (mode 0600, PKCS#8) and ``<stem>.pem`` (the certificate, then its chain).

        The key first: who reads between the two finds a pair that does not fit, and goes on with the pair it has.

        :raises ConfigurationError: one exists already, or cannot be written.
        """
        key, certificate = Path(folder) / f"{stem}.key", Path(folder) / f"{stem}.pem"
        if certificate.exists() and not overwrite:
            raise ConfigurationError(f"{certificate} exists already: it is not overwritten (see eventbus certs renew)")
        write(key, key_pem(self.key, password), private=True, overwrite=overwrite)
        write(certificate, chain_pem((self.certificate, *self.chain)), overwrite=overwrite)

    def __repr__(self) -> str:
        return f"Issued({self.certificate.subject.rfc4514_string()!r})"


class CertificateAuthority:
    """A root certificate and its key. Nothing is written before :meth:`save`."""

    def __init__(self, certificate: x509.Certificate, key: PrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def create(cls, name: str = "eventbus CA", *, key_type: KeyType = "ecdsa", days: float = CA_DAYS) -> Self:
        """A new authority, which signs certificates of brokers and clients, and no further authorities."""
        key = new_key(key_type, authority=True)
        now = datetime.now(UTC)
        subject = _name(name)
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = _builder(subject, subject, key, now - BACKDATED, now + timedelta(days=days))
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path | str, *, password: Secret | None = None) -> Self:
        """The authority of a folder.

        :raises CertificateError: there is none, its key needs another password, or does not belong to it.
        """
        path = Path(folder)
        if not (path / "ca.pem").exists():
            raise CertificateError(f"there is no authority in {path}: make one with eventbus certs init")
        try:
            certificate = x509.load_pem_x509_certificate(read(path / "ca.pem"))
        except ValueError as error:
            raise CertificateError(f"{path / 'ca.pem'} is no certificate in PEM format") from error
        key = read_key(path / "ca.key", password)
        if key.public_key() != certificate.public_key():
            raise CertificateError(f"{path / 'ca.key'} does not belong to {path / 'ca.pem'}")
        return cls(certificate, key)

    def save(self, folder: Path | str, *, password: Secret | None = None, overwrite: bool = False) -> None:
        """Write ``ca.pem`` and ``ca.key`` (mode 0600, PKCS#8).

        :raises ConfigurationError: there is an authority already, or the folder cannot be written to.
        """
        path = Path(folder)
        if (path / "ca.pem").exists() and not overwrite:
            raise ConfigurationError(
                f"there is an authority in {path} already; without its key nothing signed by it could be renewed"
            )
        write(path / "ca.key", key_pem(self._key, password), private=True, overwrite=overwrite)
        write(path / "ca.pem", chain_pem((self.certificate,)), overwrite=overwrite)

    def issue_server(
        self,
        names: Iterable[str],
        *,
        days: float = SERVER_DAYS,
        key_type: KeyType = "ecdsa",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Issued:
        """A certificate for a broker that is reached by these names: host names and addresses (``DNS:``, ``IP:``)."""
        alternatives = alternative_names(names)
        if not alternatives:
            raise ConfigurationError("a server certificate is for at least one name or address")
        dates = _dates(days, not_before, not_after)
        return self.sign(
            _name(str(alternatives[0].value)),
            alternatives,
            (ExtendedKeyUsageOID.SERVER_AUTH,),
            new_key(key_type),
            dates,
        )

    def issue_client(
        self,
        user: str,
        *,
        days: float = CLIENT_DAYS,
        key_type: KeyType = "ecdsa",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Issued:
        """A certificate that logs in as ``user``: its common name, which is where RabbitMQ's EXTERNAL looks."""
        dates = _dates(days, not_before, not_after)
        return self.sign(_name(user), [], (ExtendedKeyUsageOID.CLIENT_AUTH,), new_key(key_type), dates)

    def sign(
        self,
        subject: x509.Name,
        alternatives: Iterable[x509.GeneralName],
        usages: Iterable[x509.ObjectIdentifier],
        key: PrivateKey,
        dates: tuple[datetime, datetime],
    ) -> Issued:
        """A certificate of these properties. It ends with the authority at the latest."""
        begins, ends = dates
        ends = min(ends, self.certificate.not_valid_after_utc)
        if ends <= begins:
            raise ConfigurationError("the certificate would end before it begins: has the authority expired?")
        rsa_key = isinstance(key, rsa.RSAPrivateKey)
        builder = _builder(subject, self.certificate.subject, key, begins, ends)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True, key_encipherment=rsa_key), critical=True)
            .add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names := list(alternatives):
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Issued(certificate=builder.sign(self._key, hashes.SHA256()), key=key)

    def __repr__(self) -> str:
        return f"CertificateAuthority({self.certificate.subject.rfc4514_string()!r})"


def new_key(key_type: KeyType, *, authority: bool = False) -> PrivateKey:
    """ECDSA on P-256; or RSA of 3072 bits, 4096 for an authority, for peers that know no elliptic curves."""
    if key_type == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=4096 if authority else 3072)


def alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """Names and addresses as a certificate has them; ``DNS:`` and ``IP:`` before them are optional.

    :raises ConfigurationError: one is neither.
    """
    found: list[x509.GeneralName] = []
    for text in names:
        kind, colon, rest = text.partition(":")
        given = kind.upper() if colon and kind.upper() in ("DNS", "IP") else ""
        name = rest if given else text
        address = _address(name)
        if given == "IP" and address is None:
            raise ConfigurationError(f"{name!r} is no IP address")
        if address is not None and given != "DNS":
            found.append(x509.IPAddress(address))
            continue
        try:
            if not name or any(c.isspace() or c in "/:@" for c in name):
                raise ValueError(name)
            found.append(x509.DNSName(name.encode("idna").decode("ascii")))
        except (ValueError, UnicodeError):
            raise ConfigurationError(f"{name!r} is neither a host name nor an IP address") from None
    return list(dict.fromkeys(found))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _name(common: str) -> x509.Name:
    if not common or len(common) > MAX_COMMON_NAME or not common.isprintable():
        raise ConfigurationError(f"the common name of a certificate is 1 to {MAX_COMMON_NAME} printable characters")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _dates(days: float, begins: datetime | None, ends: datetime | None) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    return begins or now - BACKDATED, ends or now + timedelta(days=days)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in names})
