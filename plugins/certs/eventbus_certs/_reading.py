"""Reading certificates of files, and their extensions."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from eventbus import CertificateError
from eventbus_certs._files import read


def read_all(file: Path) -> list[x509.Certificate]:
    """The certificates of a file in PEM format, at least one.

    :raises CertificateError: there are none, or one cannot be understood.
    """
    data = read(file)
    try:
        found = x509.load_pem_x509_certificates(data)
        for certificate in found:
            certificate.extensions  # noqa: B018  # parsed at the first look, which is to be here
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        only_key = b"PRIVATE KEY" in data and b"CERTIFICATE" not in data
        what = "a private key, where a certificate belongs" if only_key else "no certificate in PEM format"
        raise CertificateError(f"{file} holds {what}") from error
    return found


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


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
