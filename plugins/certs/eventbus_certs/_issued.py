"""A certificate with its key, and how the two become files."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from eventbus import CertificateError, ConfigurationError
from eventbus_certs._files import NewFile, create, replace
from eventbus_certs._keys import Password, PrivateKey, key_pem
from eventbus_certs._reading import is_authority, read_all


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate with its key. ``chain`` is what stands above it, without the root: empty where that signed it."""

    certificate: x509.Certificate
    key: PrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    def save(
        self, folder: Path | str, stem: str, *, password: Password | None = None, overwrite: bool = False
    ) -> tuple[Path, Path]:
        """Write ``<stem>.pem`` and ``<stem>.key`` (mode 0600, PKCS#8); gives their paths.

        The first holds the certificate and then its chain, for that is what TLS sends to a peer; not the root, which a
        peer has already or must not take from us.

        :raises ConfigurationError: one exists already, or cannot be written, or is an authority's: a user who is called
            ``ca`` must not cost one, overwriting or not.
        """
        # A NUL would be ValueError deep inside of the file system's calls.
        if stem in ("", ".", "..") or os.path.basename(stem) != stem or "\0" in stem:
            raise ConfigurationError(f"{stem!r} cannot be the name of files: give it without a folder")
        certificate, key = Path(folder) / f"{stem}.pem", Path(folder) / f"{stem}.key"
        _spare_an_authority(certificate)
        self.write(certificate, key, password=password, overwrite=overwrite)
        return certificate, key

    def write(
        self, certificate: Path, key: Path | None, *, password: Password | None = None, overwrite: bool = False
    ) -> None:
        """Write both files, the key first; without a path for the key, the certificate alone.

        Two files cannot change in one step. In this order, who watches the certificate finds its key in place already;
        who reads in between finds a pair that does not fit, and finds one that does when it tries again.

        :raises ConfigurationError: one exists already, or cannot be written; then neither has changed.
        """
        files = [NewFile(key, key_pem(self.key, password), private=True)] if key is not None else []
        files.append(NewFile(certificate, chain_pem((self.certificate, *self.chain))))
        (replace if overwrite else create)(files)

    def __repr__(self) -> str:
        return f"Issued({self.certificate.subject.rfc4514_string()!r})"


def _spare_an_authority(file: Path) -> None:
    try:
        authority = is_authority(read_all(file)[0])
    except CertificateError:  # nothing there, or nothing that could be one
        return
    if authority:
        raise ConfigurationError(f"{file} is an authority, and is not overwritten: choose another name for the files")


def chain_pem(certificates: tuple[x509.Certificate, ...]) -> bytes:
    """Certificates as text, in their order."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)
