"""What certificates say, and bundles of those who may sign."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from eventbus_certs import CertificateAuthority, bundle, inspect

from eventbus import CertificateError, ConfigurationError
from tests.certs.handshakes import saved, shake


def test_a_server_certificate_tells_everything(ca: CertificateAuthority, tmp_path: Path) -> None:
    issued = ca.issue_server(["bus.example", "::1", "10.0.0.5"], days=12.5)
    file, _ = issued.save(tmp_path, "server")
    (info,) = inspect(file)
    assert (info.file, info.subject, info.common_name) == (str(file), "CN=bus.example", "bus.example")
    assert (info.issuer, info.is_ca, info.usages) == ("CN=Test CA", False, ("server",))
    assert info.names == ("DNS:bus.example", "IP:::1", "IP:10.0.0.5")
    assert info.serial == f"{issued.certificate.serial_number:x}"
    assert (info.days_left, info.key_type, info.key_size) == (12, "ecdsa", 256)
    assert (info.not_before, info.not_after) == (
        issued.certificate.not_valid_before_utc,
        issued.certificate.not_valid_after_utc,
    )
    assert info.not_after.utcoffset() == timedelta(0)
    assert info.fingerprint == issued.certificate.fingerprint(hashes.SHA256()).hex()


def test_an_authority_tells_that_it_is_one(rsa_ca: CertificateAuthority, tmp_path: Path) -> None:
    (info,) = inspect(rsa_ca.save(tmp_path)[0])
    assert (info.is_ca, info.usages, info.names) == (True, (), ())
    assert (info.key_type, info.key_size) == ("rsa", 4096)


def test_a_client_tells_its_user(ca: CertificateAuthority, tmp_path: Path) -> None:
    (info,) = inspect(ca.issue_client("billing").save(tmp_path, "billing")[0])
    assert (info.common_name, info.usages) == ("billing", ("client",))


@pytest.mark.parametrize(("hours", "expected"), [(-1, -1), (-25, -2), (1, 0), (25, 1)])
def test_days_left_are_whole_ones_and_below_zero_after_the_end(
    hours: int, expected: int, ca: CertificateAuthority, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    ends = now + timedelta(hours=hours)
    issued = ca.issue_client("billing", not_before=now - timedelta(days=9), not_after=ends)
    assert inspect(issued.save(tmp_path, "billing")[0])[0].days_left == expected


def test_all_certificates_of_a_file_are_told_in_their_order(ca: CertificateAuthority, tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    parts = [ca.issue_client("billing").save(tmp_path, "billing")[0], ca.save(tmp_path)[0]]
    chain.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert [info.common_name for info in inspect(chain)] == ["billing", "Test CA"]


def test_values_do_not_change(ca: CertificateAuthority, tmp_path: Path) -> None:
    (info,) = inspect(ca.save(tmp_path)[0])
    with pytest.raises(AttributeError):
        info.days_left = 1  # type: ignore[misc]


def test_names_of_other_kinds_and_no_name_at_all_are_told(tmp_path: Path) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    names = [x509.UniformResourceIdentifier("urn:x"), x509.RFC822Name("a@b.example"), x509.DirectoryName(x509.Name([]))]
    made = (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "other.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (info,) = inspect(file)
    assert info.names == ("URI:urn:x", "email:a@b.example", "other:DirectoryName")
    assert (info.common_name, info.usages, info.is_ca) == ("", (), False)


def test_what_is_no_certificate_is_told(ca: CertificateAuthority, tmp_path: Path) -> None:
    _, key = ca.save(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(CertificateError, match="holds a private key, where a certificate belongs"):
        inspect(key)
    with pytest.raises(CertificateError, match="holds no certificate in PEM format"):
        inspect(tmp_path / "empty")
    with pytest.raises(CertificateError, match="cannot be read: No such file"):
        inspect(tmp_path / "missing")


def test_with_a_bundle_servers_of_the_old_and_the_new_authority_are_taken(
    ca: CertificateAuthority, other_ca: CertificateAuthority, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    assert bundle([ca.save(tmp_path / "old")[0], other_ca.save(tmp_path / "new")[0]], both) == 2
    for stem, signer in (("old", ca), ("new", other_ca)):
        assert shake(both, saved(signer.issue_server(["localhost"]), tmp_path, stem))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(both, saved(CertificateAuthority.create("Test CA").issue_server(["localhost"]), tmp_path, "third"))


def test_a_bundle_has_each_authority_once_even_when_it_is_its_own_source(
    ca: CertificateAuthority, other_ca: CertificateAuthority, tmp_path: Path
) -> None:
    old, new, out = ca.save(tmp_path / "old")[0], other_ca.save(tmp_path / "new")[0], tmp_path / "both.pem"
    assert bundle([old, new, old], out) == 2
    assert bundle([out, new], out) == 2
    assert [info.fingerprint for info in inspect(out)] == [info.fingerprint for f in (old, new) for info in inspect(f)]


def test_only_authorities_are_bundled(ca: CertificateAuthority, tmp_path: Path) -> None:
    server, _ = ca.issue_server(["localhost"]).save(tmp_path, "server")
    with pytest.raises(ConfigurationError, match=r"server\.pem: 'CN=localhost' is not an authority"):
        bundle([ca.save(tmp_path)[0], server], tmp_path / "out.pem")
    assert not (tmp_path / "out.pem").exists()


def test_a_bundle_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no authority was given"):
        bundle([], tmp_path / "out.pem")


def test_a_bundle_never_takes_the_place_of_a_key(ca: CertificateAuthority, tmp_path: Path) -> None:
    root, key = ca.save(tmp_path)
    before = key.read_bytes()
    with pytest.raises(ConfigurationError, match="holds a private key, and is not overwritten"):
        bundle([root], key)
    assert key.read_bytes() == before


def test_a_bundle_overwrites_only_where_it_may(ca: CertificateAuthority, tmp_path: Path) -> None:
    root, _ = ca.save(tmp_path)
    out = tmp_path / "out.pem"
    bundle([root], out, overwrite=False)
    with pytest.raises(ConfigurationError, match="exists already"):
        bundle([root], out, overwrite=False)
