"""Renewing a certificate: the same subject and names, a new serial number, new dates, and a new key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from eventbus import ConfigurationError, Secret
from eventbus_certs._authority import BACKDATED, CertificateAuthority, Issued, new_key
from eventbus_certs._files import chain_pem, key_pem, read_key, write
from eventbus_certs._inspecting import extended_usages, general_names, read_all


def renew(
    certificate: Path | str,
    authority: CertificateAuthority,
    *,
    key_file: Path | str | None = None,
    days: float | None = None,
    keep_key: bool = False,
    password: Secret | None = None,
) -> Issued:
    """Replace a certificate file, and its key file beside it, by new ones; services read them at their next connect.

    :param key_file: default: the certificate's name with ``.key``.
    :param days: default: as many as the old one had.
    :param keep_key: sign the old key again, instead of a new one of the same kind.
    :param password: the key's, if it is encrypted; the new one is encrypted with it too.
    :raises ConfigurationError: a file cannot be read or written, or the certificate is an authority's.
    """
    path = Path(certificate)
    key_path = Path(key_file) if key_file is not None else path.with_suffix(".key")
    old, key = read_all(path)[0], read_key(key_path, password)
    usages = extended_usages(old)
    if not usages:
        raise ConfigurationError(f"{path} says not whether it is for servers or clients: issue a new one instead")
    if not keep_key:
        key = new_key("rsa" if isinstance(key, rsa.RSAPrivateKey) else "ecdsa")
    now = datetime.now(UTC)
    life = old.not_valid_after_utc - old.not_valid_before_utc if days is None else timedelta(days=days)
    issued = authority.sign(old.subject, general_names(old), usages, key, (now - BACKDATED, now + life))
    encrypted = b"ENCRYPTED" in key_path.read_bytes()
    # In the order of Issued.save: a reader between the two goes on with what it has.
    write(key_path, key_pem(issued.key, password if encrypted else None), private=True, overwrite=True)
    write(path, chain_pem((issued.certificate, *issued.chain)), overwrite=True)
    return issued
