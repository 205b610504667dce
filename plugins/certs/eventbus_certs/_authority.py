"""The authority: a root certificate that signs those of brokers and of clients.

Extensions follow RFC 5280, so that a verifier in strict mode (OpenSSL's ``-x509_strict``) takes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from eventbus import CertificateError, ConfigurationError
from eventbus_certs._issued import Issued
from eventbus_certs._keys import KeyType, Password, PrivateKey, new_key, read_key
from eventbus_certs._names import alternative_names, host_subject, subject_of
from eventbus_certs._reading import is_authority, read_all

CA_DAYS = 3650
SERVER_DAYS = 397  # what browsers accept at most, for the management page is looked at with one
CLIENT_DAYS = 90
# A verifier whose clock is a little behind must take a certificate that has just been made.
BACKDATED = timedelta(minutes=5)
_MAX_DAYS = 36500


class Dates(NamedTuple):
    """From when until when, in UTC."""

    begins: datetime
    ends: datetime


class CertificateAuthority:
    """A root certificate and its key. Nothing is written before :meth:`save`."""

    def __init__(
        self, certificate: x509.Certificate, key: PrivateKey, *, above: tuple[x509.Certificate, ...] = ()
    ) -> None:
        self.certificate = certificate
        self._key = key
        self._above = above

    @classmethod
    def create(cls, common_name: str = "eventbus CA", *, key_type: KeyType = "ecdsa", days: float = CA_DAYS) -> Self:
        """A new authority, which signs certificates of brokers and clients, and no further authorities.

        :raises ConfigurationError: the name, the type of the key or the days are none.
        """
        subject, dates = subject_of(common_name), dates_of(days)
        key = new_key(key_type, authority=True)
        public = key.public_key()
        builder = (
            _builder(subject, subject, key, dates)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, where: Path | str, *, key_file: Path | str | None = None, password: Password | None = None) -> Self:
        """The authority of a folder (its ``ca.pem`` and ``ca.key``), or of a certificate's file.

        :param key_file: default: ``ca.key`` of the folder, or the certificate's name with ``.key``.
        :param password: the key's, if it is encrypted.
        :raises CertificateError: there is none, its key needs another password, or does not belong to it.
        """
        path = Path(where)
        file = path if path.is_file() else path / "ca.pem"
        if not file.exists():
            raise CertificateError(f"there is no authority in {path}: make one with eventbus certs init {path}")
        certificate, *above = read_all(file)
        if not is_authority(certificate):
            raise CertificateError(f"{file} is not the certificate of an authority: it cannot sign others")
        key_path = Path(key_file) if key_file is not None else file.with_suffix(".key")
        key = read_key(key_path, password)
        if key.public_key() != certificate.public_key():
            raise CertificateError(f"the private key {key_path} does not belong to the certificate {file}")
        return cls(certificate, key, above=tuple(above))

    def save(
        self, folder: Path | str, *, password: Password | None = None, overwrite: bool = False
    ) -> tuple[Path, Path]:
        """Write ``ca.pem`` and ``ca.key`` (mode 0600, PKCS#8); gives their paths.

        :raises ConfigurationError: there is an authority already, or the folder cannot be written to.
        """
        path = Path(folder)
        certificate, key = path / "ca.pem", path / "ca.key"
        if not overwrite and (certificate.exists() or key.exists()):
            raise ConfigurationError(
                f"there is an authority in {path} already, and what it signed depends on it: choose another folder"
            )
        issued = Issued(certificate=self.certificate, key=self._key, chain=self._above)
        issued.write(certificate, key, password=password, overwrite=overwrite)
        return certificate, key

    def issue_server(
        self,
        names: Iterable[str],
        *,
        days: float = SERVER_DAYS,
        key_type: KeyType = "ecdsa",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Issued:
        """A certificate for a broker that is reached by these names: host names and addresses (``DNS:``, ``IP:``).

        :param not_before: default: a few minutes ago.
        :param not_after: default: in ``days``; never later than the authority ends.
        :raises ConfigurationError: there is no name, or one that is none; or the dates are none.
        """
        alternatives = alternative_names(names)
        if not alternatives:
            raise ConfigurationError("a server certificate is for at least one name or address")
        dates = dates_of(days, not_before, not_after)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH]
        return self.sign(host_subject(alternatives), new_key(key_type), dates, names=alternatives, usages=usages)

    def issue_client(
        self,
        user: str,
        *,
        days: float = CLIENT_DAYS,
        key_type: KeyType = "ecdsa",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Issued:
        """A certificate that logs in as ``user``: its common name, which is where RabbitMQ's EXTERNAL can look.

        It has no alternative names: a user is not a host, and a verifier that overlooks what a certificate is for
        would take a user named as a broker for that broker.

        :param not_before: default: a few minutes ago.
        :param not_after: default: in ``days``; never later than the authority ends.
        :raises ConfigurationError: the user's name does not fit into a certificate, or the dates are none.
        """
        dates = dates_of(days, not_before, not_after)
        return self.sign(subject_of(user), new_key(key_type), dates, usages=[ExtendedKeyUsageOID.CLIENT_AUTH])

    def sign(
        self,
        subject: x509.Name,
        key: PrivateKey,
        dates: Dates,
        *,
        usages: Iterable[x509.ObjectIdentifier],
        names: Iterable[x509.GeneralName] = (),
    ) -> Issued:
        """A certificate of these properties, which ends with the authority at the latest.

        :raises ConfigurationError: the authority has ended already.
        """
        begins, last = dates.begins, self.certificate.not_valid_after_utc
        if last <= max(begins, datetime.now(UTC)):
            raise ConfigurationError(
                f"the authority {self.certificate.subject.rfc4514_string()!r} ends on {last:%Y-%m-%d %H:%M} UTC, "
                "before the certificate begins: make a new one with eventbus certs init"
            )
        builder = (
            _builder(subject, self.certificate.subject, key, Dates(begins, min(dates.ends, last)))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            # Only RSA has ciphers in which the key itself hides the session's secret.
            .add_extension(_usage(digital_signature=True, key_encipherment=_is_rsa(key)), critical=True)
            .add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(self._identifier(), critical=False)
        )
        if alternatives := list(names):
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        chain = (self.certificate, *self._above)
        return Issued(
            certificate=builder.sign(self._key, hashes.SHA256()),
            key=key,
            chain=tuple(member for member in chain if member.subject != member.issuer),
        )

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        """As the authority calls itself: one of another tool may have reckoned its identifier in another way."""
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)

    def __repr__(self) -> str:
        return f"CertificateAuthority({self.certificate.subject.rfc4514_string()!r})"


def dates_of(days: float, begins: datetime | None = None, ends: datetime | None = None) -> Dates:
    """From ``begins``, or a few minutes ago, for so many days or until ``ends``.

    :raises ConfigurationError: they are no dates, or in the wrong order.
    """
    if not math.isfinite(days) or not 0 < days <= _MAX_DAYS:
        raise ConfigurationError(f"the days of a certificate are more than 0 and at most {_MAX_DAYS}, not {days}")
    for given in (begins, ends):
        if given is not None and given.tzinfo is None:
            raise ConfigurationError(
                f"{given.isoformat()} is without a time zone: give datetimes with one, such as UTC"
            )
    now = datetime.now(UTC)
    found = Dates(begins or now - BACKDATED, ends or (begins or now) + timedelta(days=days))
    if found.ends <= found.begins:
        raise ConfigurationError("the certificate would end before it begins: mend not_before and not_after")
    return found


def _builder(subject: x509.Name, issuer: x509.Name, key: PrivateKey, dates: Dates) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dates.begins)
        .not_valid_after(dates.ends)
    )


def _is_rsa(key: PrivateKey) -> bool:
    return isinstance(key, rsa.RSAPrivateKey)


def _usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_encipherment=key_encipherment,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
