"""Certificates and keys as files: keys are for their owner only, from the first moment."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from eventbus import CertificateError, ConfigurationError, Secret

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def key_pem(key: PrivateKey, password: Secret | None) -> bytes:
    """A key as PKCS#8 text, encrypted where there is a password."""
    how: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        how = serialization.BestAvailableEncryption(password.reveal().encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def chain_pem(certificates: tuple[x509.Certificate, ...]) -> bytes:
    """Certificates as text, in their order."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def read(path: Path) -> bytes:
    """What a file holds.

    :raises CertificateError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from error


def read_key(path: Path, password: Secret | None) -> PrivateKey:
    """The private key of a file.

    :raises CertificateError: it is none, or encrypted with another password.
    """
    data = read(path)
    encrypted = b"ENCRYPTED" in data
    try:
        key = serialization.load_pem_private_key(data, password.reveal().encode() if password and encrypted else None)
    except TypeError as error:
        raise CertificateError(f"the private key {path} is encrypted: its password is needed") from error
    except ValueError as error:
        what = "cannot be decrypted with this password" if encrypted else "is no private key in PEM format"
        raise CertificateError(f"{path} {what}") from error
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise CertificateError(f"{path} holds a key of a kind that is not used here (ECDSA and RSA are)")
    return key


def write(path: Path, data: bytes, *, private: bool = False, overwrite: bool = False) -> None:
    """Write a file in one step: a reader sees what was there before, or all of the new.

    :raises ConfigurationError: it exists and may not be overwritten, or the folder cannot be written to.
    """
    if path.exists() and not overwrite:
        raise ConfigurationError(f"{path} exists already: it is not overwritten")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
