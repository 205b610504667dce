"""Renewing a certificate: the same subject and names, a new serial number, new dates, and a new key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from eventbus import ConfigurationError
from eventbus_certs._authority import BACKDATED, CertificateAuthority, Dates, dates_of
from eventbus_certs._files import read
from eventbus_certs._issued import Issued
from eventbus_certs._keys import Password, is_encrypted, read_key, similar_key
from eventbus_certs._reading import extended_usages, general_names, is_authority, read_all


def renew(
    certificate_file: Path | str,
    ca: CertificateAuthority,
    *,
    key_file: Path | str | None = None,
    days: float | None = None,
    keep_key: bool = False,
    password: Password | None = None,
) -> Issued:
    """Replace a certificate's file, and its key's beside it, by new ones, for running services to pick up.

    Subject, names, usages and the kind of the key stay; serial number, dates and key are new. The authority need not be
    the one that signed the old one: this is also how certificates go from one authority to the next. Owners and modes
    of both files stay, and either both files change or none does (see :meth:`Issued.write` for the moment between).

    :param key_file: default: the certificate's name with ``.key``.
    :param days: default: as many as the old one had.
    :param keep_key: sign the old key again, and leave its file alone.
    :param password: the key's, if it is encrypted; the new one is encrypted with it too.
    :raises ConfigurationError: a file cannot be read or written, or the certificate is not one to renew.
    """
    path = Path(certificate_file)
    key_path = Path(key_file) if key_file is not None else path.with_suffix(".key")
    old, usages = _renewable(path)
    old_key = read_key(key_path, password)
    key = old_key if keep_key else similar_key(old_key)
    dates = _dates(old.not_valid_after_utc - old.not_valid_before_utc, days)
    issued = ca.sign(old.subject, key, dates, usages=usages, names=general_names(old))
    kept = password if is_encrypted(read(key_path)) else None
    issued.write(path, None if keep_key else key_path, password=kept, overwrite=True)
    return issued


def _renewable(path: Path) -> tuple[x509.Certificate, list[x509.ObjectIdentifier]]:
    old = read_all(path)[0]
    if is_authority(old):
        raise ConfigurationError(f"{path} is an authority, which is not renewed but replaced: see certs bundle")
    usages = extended_usages(old)
    if not usages:
        raise ConfigurationError(f"{path} does not say whether it is for a server or a client: issue a new one instead")
    return old, usages


def _dates(life: timedelta, days: float | None) -> Dates:
    if days is not None:
        return dates_of(days)
    # The old life has the minutes before it was made in it: counted again, it would grow with each renewal.
    begins = datetime.now(UTC) - BACKDATED
    return Dates(begins, begins + life)
