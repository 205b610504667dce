"""Authorities that the tests share: making them costs, above all those with RSA keys."""

from __future__ import annotations

import pytest
from eventbus_certs import CertificateAuthority


@pytest.fixture(scope="session")
def ca() -> CertificateAuthority:
    """The authority that everybody trusts."""
    return CertificateAuthority.create("Test CA")


@pytest.fixture(scope="session")
def other_ca() -> CertificateAuthority:
    """One that nobody trusts, under the same name."""
    return CertificateAuthority.create("Test CA")


@pytest.fixture(scope="session")
def rsa_ca() -> CertificateAuthority:
    """One for peers that know no elliptic curves."""
    return CertificateAuthority.create("Test CA with RSA", key_type="rsa")
