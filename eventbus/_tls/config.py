"""TLS settings as a value, and the context that comes of them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from eventbus._errors import CertificateError, ConfigurationError
from eventbus._secrets import Secret

if TYPE_CHECKING:
    import ssl  # 20 ms, which only those pay who make a context

log = logging.getLogger("eventbus.tls")

PEM = str | Path | bytes | Callable[[], bytes]
"""Text in PEM format: the path of a file, the bytes themselves, or a function that gives them."""

_VERSIONS = {"1.2": "TLSv1_2", "1.3": "TLSv1_3"}
_MAX_BYTES = 4 << 20
_SOURCES = ("ca", "certificate", "key", "client_ca")


class TLSConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to speak TLS: whom to trust, and who we are. Everything is read again whenever a context is made.

    Certificates and keys are given as the path of a file, as bytes, or as a function that gives bytes.

    :param ca: certificates of the authorities to trust (a bundle may hold several); default: the system's.
    :param certificate: our own certificate, and the intermediate ones above it, for brokers that ask for one.
    :param key: its private key; default: in the same file.
    :param key_password: for an encrypted key; text, a :class:`Secret`, or a function that gives either.
    :param minimum_version: ``"1.2"`` or ``"1.3"``.
    :param ciphers: OpenSSL's cipher list for TLS 1.2 (those of 1.3 are all good ones); never ones without a certificate
        or without encryption.
    :param server_name: name that the broker's certificate must have, instead of the host in the URL.
    :param client_ca: authority that signed our certificate, where it is not the one in ``ca``.
    :param warn_days: warn when our certificate has fewer days left than this.
    :param dangerously_accept_any_certificate: trust whoever answers. Gives the password to everybody on the way; logged
        as a warning each time.
    """

    ca: PEM | None = None
    certificate: PEM | None = None
    key: PEM | None = None
    key_password: str | Secret | Callable[[], str | Secret] | None = None
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    ciphers: str | None = None
    server_name: str | None = None
    client_ca: PEM | None = None
    warn_days: int = 30
    dangerously_accept_any_certificate: bool = False

    def __post_init__(self) -> None:
        if self.minimum_version not in _VERSIONS:
            raise ConfigurationError('minimum_version of TLS is "1.2" or "1.3"')
        for name in _SOURCES:
            _check_source(name, getattr(self, name))
        if self.key is not None and self.certificate is None:
            raise ConfigurationError("a TLS key is given without its certificate")

    def context(self) -> ssl.SSLContext:
        """A new client context, after a check of all that goes into it.

        :raises CertificateError: a file cannot be read, key and certificate do not belong together, the chain does not
            reach the CA, or a certificate has expired or is not made for clients. Nothing has been sent then.
        """
        import ssl

        ca, certificate, key = self._checked()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
        context.minimum_version = ssl.TLSVersion[_VERSIONS[self.minimum_version]]
        context.options |= ssl.OP_NO_RENEGOTIATION
        if self.dangerously_accept_any_certificate:
            log.warning("TLS without verification: whoever answers gets the password and sees every message")
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if ca is None:
            context.load_default_certs()
        else:
            with _explained(f"the CA in {describe(self.ca)}"):
                context.load_verify_locations(cadata=ca.decode("ascii", "ignore"))
        if self.ciphers is not None:
            try:
                # With ciphers of no certificate nothing would be verified, whatever the context says.
                context.set_ciphers(f"{self.ciphers}:!aNULL:!eNULL")
            except ssl.SSLError:
                raise ConfigurationError(f"OpenSSL knows no cipher of {self.ciphers!r}") from None
        if certificate is not None:
            name = f"the certificate {describe(self.certificate)} with its key"
            with _as_file(certificate) as path, _as_file(key or certificate) as key_path, _explained(name):
                # A password is always given: an encrypted key must not stop a service at a prompt.
                context.load_cert_chain(path, key_path, password=(self._password() or Secret("")).reveal())
        return context

    def expires(self) -> float | None:
        """When our certificate, or one above it in its file, ends: Unix seconds; None without one.

        :raises CertificateError: it cannot be read.
        """
        from eventbus._tls import certificates

        if self.certificate is None:
            return None
        return certificates.expires(_read(self.certificate, "certificate"), describe(self.certificate))

    def _checked(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        from eventbus._tls import certificates

        ca = None if self.ca is None else _read(self.ca, "ca")
        certificate = None if self.certificate is None else _read(self.certificate, "certificate")
        key = None if self.key is None else _read(self.key, "key", secret=True)
        now = time.time()
        if ca is not None:
            certificates.check_authorities(ca, describe(self.ca), now)
        if certificate is not None:
            names = certificates.Names(describe(self.certificate), describe(self.key or self.certificate))
            trusted = ca if self.client_ca is None else _read(self.client_ca, "client_ca")
            ends = certificates.check_client(certificate, key or certificate, self._password(), trusted, names, now)
            if ends - now < self.warn_days * 86400:
                days = max(0, int((ends - now) / 86400))
                log.warning(
                    "%s expires in %d days: renew it (it is read again at every connect)", names.certificate, days
                )
        return ca, certificate, key

    def _password(self) -> Secret | None:
        given = self.key_password
        if callable(given):
            try:
                given = given()
            except CertificateError:  # our own, which reads a file
                raise
            except Exception as error:
                raise CertificateError(f"key_password: its function raised {type(error).__name__}") from error
        if isinstance(given, str):
            return Secret(given)
        if given is not None and not isinstance(given, Secret):
            raise CertificateError(f"key_password is text or a Secret, not {type(given).__name__}")
        return given

    def _shown(self) -> Iterator[tuple[str, object]]:
        """What may be seen of it, by name: never a key."""
        for name in _SOURCES:
            if getattr(self, name) is not None:
                yield name, describe(getattr(self, name))
        for name in ("minimum_version", "server_name", "dangerously_accept_any_certificate"):
            if getattr(self, name):
                yield name, getattr(self, name)

    def __rich_repr__(self) -> list[tuple[str, object]]:
        # msgspec's own, for rich, gives all fields away.
        return list(self._shown())

    def __repr__(self) -> str:
        return f"TLSConfig({', '.join(f'{name}={value!r}' for name, value in self._shown())})"


def describe(source: PEM | None) -> str:
    """What to call a source in texts: never its contents."""
    if isinstance(source, (str, Path)):
        return str(source)
    return "<bytes>" if isinstance(source, bytes) else "<function>"


def _check_source(name: str, source: object) -> None:
    """Refuse what is no source, without showing it: it may be a key."""
    if isinstance(source, str) and "-----BEGIN" in source:
        raise ConfigurationError(f"{name} is text in PEM format, and text is taken as a path: give it as text.encode()")
    if isinstance(source, (str, Path)) and (not str(source) or "\0" in str(source)):
        raise ConfigurationError(f"{name} is no path of a file")
    if source is not None and not isinstance(source, (str, Path, bytes)) and not callable(source):
        raise ConfigurationError(f"{name} is a path, bytes or a function, not {type(source).__name__}")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """What OpenSSL refuses although it is well-formed: keys that are too short, kinds that it does not know."""
    import ssl

    try:
        yield
    except (ssl.SSLError, ValueError) as error:
        why = getattr(error, "reason", None) or type(error).__name__
        raise CertificateError(f"{what} cannot be used: OpenSSL says {str(why).lower().replace('_', ' ')}") from error


_told_of: set[str] = set()


def _read(source: PEM, what: str, *, secret: bool = False) -> bytes:
    if isinstance(source, bytes):
        return source
    if callable(source):
        try:
            given = source()
        except Exception as error:
            raise CertificateError(f"{what}: its function raised {type(error).__name__}") from error
        if not isinstance(given, bytes):
            raise CertificateError(f"{what}: its function gave {type(given).__name__} instead of bytes")
        return given
    try:
        with open(source, "rb") as file:
            data = file.read(_MAX_BYTES)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise CertificateError(f"{what}: {source} cannot be read: {error.strerror}") from error
    if secret and mode & 0o077 and str(source) not in _told_of:
        _told_of.add(str(source))
        log.warning("the private key %s can be read by others: chmod 600 it", source)
    return data


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path to the bytes: OpenSSL's Python binding takes keys from files only. In memory where the system can."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("eventbus-tls", os.MFD_CLOEXEC)
        path = f"/proc/self/fd/{descriptor}"
    else:
        import tempfile

        descriptor, path = tempfile.mkstemp(prefix="eventbus-tls-")  # readable by us only
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield path
    finally:
        os.close(descriptor)
        if not path.startswith("/proc/"):
            os.unlink(path)
