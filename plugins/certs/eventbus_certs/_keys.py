"""Private keys: made, read, and put into PKCS#8 text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from eventbus import CertificateError, ConfigurationError, Secret
from eventbus_certs._files import read

KeyType = Literal["ecdsa", "rsa"]
Password = str | Secret
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

RSA_BITS = 3072
# An authority lives for years, and its key is used seldom enough for the slower size.
RSA_AUTHORITY_BITS = 4096
# OpenSSL, which reads these keys in brokers and services, takes no more.
_MAX_PASSWORD = 1023


def new_key(key_type: KeyType, *, authority: bool = False) -> PrivateKey:
    """A new key: ECDSA on P-256, or RSA for peers that know no elliptic curves.

    :raises ConfigurationError: it is to be of another kind.
    """
    if key_type == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=RSA_AUTHORITY_BITS if authority else RSA_BITS)
    raise ConfigurationError(f'a key is of type "ecdsa" or "rsa", not {key_type!r}')


def similar_key(key: PrivateKey) -> PrivateKey:
    """A new key of the same kind: same curve, or same number of bits unless that is too small by now."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return ec.generate_private_key(key.curve)
    return rsa.generate_private_key(public_exponent=65537, key_size=max(key.key_size, RSA_BITS))


def key_pem(key: PrivateKey, password: Password | None) -> bytes:
    """A key as PKCS#8 text, encrypted where there is a password.

    :raises ConfigurationError: the password is empty or too long.
    """
    how: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        secret = _bytes(password)
        if not 1 <= len(secret) <= _MAX_PASSWORD:
            raise ConfigurationError(f"the password of a key is 1 to {_MAX_PASSWORD} bytes long; this one is not")
        how = serialization.BestAvailableEncryption(secret)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def read_key(path: Path, password: Password | None) -> PrivateKey:
    """The private key of a file. A password that a plain key does not need is no mistake.

    :raises CertificateError: there is none, or it is encrypted with another password.
    """
    data = read(path)
    encrypted = is_encrypted(data)
    try:
        key = serialization.load_pem_private_key(data, _bytes(password) if password and encrypted else None)
    except TypeError as error:
        raise CertificateError(f"the private key {path} is encrypted: its password is needed") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise CertificateError(f"the private key {path} cannot be decrypted with this password") from error
        raise CertificateError(f"{path} holds no private key in PEM format") from error
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise CertificateError(f"{path} holds a key of a kind that is not used here: ECDSA and RSA are")
    return key


def is_encrypted(data: bytes) -> bool:
    """Whether the text of a key needs a password."""
    return b"ENCRYPTED" in data


def key_kind(certificate: x509.Certificate) -> tuple[str, int]:
    """What the key of a certificate is, and its size in bits (0 where that says nothing)."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "ecdsa", key.key_size
    if isinstance(key, rsa.RSAPublicKey):
        return "rsa", key.key_size
    return type(key).__name__.removesuffix("PublicKey").lower(), 0


def _bytes(password: Password) -> bytes:
    return (password.reveal() if isinstance(password, Secret) else password).encode()
