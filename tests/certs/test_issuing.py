"""What an authority issues: taken by those who should, refused by all others."""

from __future__ import annotations

import ipaddress
import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from eventbus_certs import CertificateAuthority, Issued

from eventbus import ConfigurationError, TLSConfig
from tests.certs.handshakes import saved, shake

NAMES = ["localhost", "127.0.0.1", "::1"]
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "bus.example", "one.bus.example"])
def test_a_strict_client_takes_a_server_by_each_of_its_names(
    name: str, ca: CertificateAuthority, tmp_path: Path
) -> None:
    server = saved(ca.issue_server([*NAMES, "DNS:bus.example", "*.bus.example"]), tmp_path)
    assert shake(ca, server, name=name).seen_by_client["subject"] == ((("commonName", "localhost"),),)


def test_a_strict_client_takes_rsa_from_the_root_down(rsa_ca: CertificateAuthority, tmp_path: Path) -> None:
    server = saved(rsa_ca.issue_server(NAMES, key_type="rsa"), tmp_path)
    client = saved(rsa_ca.issue_client("billing", key_type="rsa"), tmp_path, "billing")
    assert shake(rsa_ca, server, client=client, mutual=True).seen_by_server


def test_a_strict_server_learns_the_user_from_the_common_name(ca: CertificateAuthority, tmp_path: Path) -> None:
    server = saved(ca.issue_server(NAMES), tmp_path)
    client = saved(ca.issue_client("billing"), tmp_path, "billing")
    assert shake(ca, server, client=client, mutual=True).seen_by_server["subject"] == ((("commonName", "billing"),),)


def test_a_server_that_wants_a_certificate_refuses_a_client_without(ca: CertificateAuthority, tmp_path: Path) -> None:
    server = saved(ca.issue_server(NAMES), tmp_path)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(ca, server, mutual=True)


def test_a_client_of_another_authority_is_refused(
    ca: CertificateAuthority, other_ca: CertificateAuthority, tmp_path: Path
) -> None:
    server = saved(ca.issue_server(NAMES), tmp_path)
    client = saved(other_ca.issue_client("billing"), tmp_path, "billing")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
        shake(ca, server, client=client, mutual=True)


def test_a_server_of_another_authority_of_the_same_name_is_refused(
    ca: CertificateAuthority, other_ca: CertificateAuthority, tmp_path: Path
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
        shake(ca, saved(other_ca.issue_server(NAMES), tmp_path))


@pytest.mark.parametrize("name", ["elsewhere.example", "127.0.0.2", "two.one.bus.example"])
def test_a_server_of_another_name_is_refused(name: str, ca: CertificateAuthority, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="is not valid for"):
        shake(ca, saved(ca.issue_server([*NAMES, "*.bus.example"]), tmp_path), name=name)


@pytest.mark.parametrize(
    ("begins", "ends", "text"), [(-9, -2, "certificate has expired"), (2, 9, "certificate is not yet valid")]
)
def test_a_server_is_refused_before_and_after_its_time(
    begins: int, ends: int, text: str, ca: CertificateAuthority, tmp_path: Path
) -> None:
    issued = ca.issue_server(NAMES, not_before=NOW + begins * DAY, not_after=NOW + ends * DAY)
    with pytest.raises(ssl.SSLCertVerificationError, match=text):
        shake(ca, saved(issued, tmp_path))


def test_a_client_is_refused_after_its_time(ca: CertificateAuthority, tmp_path: Path) -> None:
    server = saved(ca.issue_server(NAMES), tmp_path)
    expired = ca.issue_client("billing", not_before=NOW - 9 * DAY, not_after=NOW - 2 * DAY)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        shake(ca, server, client=saved(expired, tmp_path, "billing"), mutual=True)


def test_a_client_cannot_pose_as_a_server(ca: CertificateAuthority, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)unsuitable certificate purpose"):
        shake(ca, saved(ca.issue_client("localhost"), tmp_path))


def test_a_server_cannot_log_in_as_a_client(ca: CertificateAuthority, tmp_path: Path) -> None:
    server = saved(ca.issue_server(NAMES), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)unsuitable certificate purpose"):
        shake(ca, server, client=server, mutual=True)


def test_a_bus_takes_a_client_whose_key_is_encrypted(ca: CertificateAuthority, tmp_path: Path) -> None:
    root, _ = ca.save(tmp_path)
    certificate, key = ca.issue_client("billing").save(tmp_path, "billing", password="s3cret")
    TLSConfig(ca=root, certificate=certificate, key=key, key_password="s3cret").context()
    with pytest.raises(ConfigurationError, match="cannot be decrypted"):
        TLSConfig(ca=root, certificate=certificate, key=key, key_password="another").context()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the command openssl")
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_openssl_takes_them_for_their_purpose_and_for_no_other(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    ca: CertificateAuthority = request.getfixturevalue("ca" if kind == "ecdsa" else "rsa_ca")
    root, _ = ca.save(tmp_path)
    server, _ = saved(ca.issue_server(NAMES), tmp_path)
    client, _ = saved(ca.issue_client("billing"), tmp_path, "billing")

    def verified(certificate: Path, purpose: str) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(root), str(certificate)]
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0

    assert verified(server, "sslserver")
    assert verified(client, "sslclient")
    assert not verified(server, "sslclient")
    assert not verified(client, "sslserver")


def extension(issued: Issued | CertificateAuthority, kind: type[Any]) -> tuple[Any, bool]:
    found: x509.Extension[Any] = issued.certificate.extensions.get_extension_for_class(kind)
    return found.value, found.critical


def usages(issued: Issued | CertificateAuthority) -> set[str]:
    usage, critical = extension(issued, x509.KeyUsage)
    assert critical
    names = ("digital_signature", "key_encipherment", "key_cert_sign", "crl_sign", "key_agreement")
    return {name for name in names if getattr(usage, name)}


def test_an_authority_signs_certificates_and_no_further_authorities(ca: CertificateAuthority) -> None:
    assert extension(ca, x509.BasicConstraints) == (x509.BasicConstraints(ca=True, path_length=0), True)
    assert usages(ca) == {"key_cert_sign", "crl_sign"}


def test_a_certificate_says_what_it_is_for_and_who_signed_it(ca: CertificateAuthority) -> None:
    server = ca.issue_server(["bus.example", "IP:10.0.0.5", "DNS:bus.example"])
    names = x509.SubjectAlternativeName(
        [x509.DNSName("bus.example"), x509.IPAddress(ipaddress.IPv4Address("10.0.0.5"))]
    )
    assert extension(server, x509.BasicConstraints) == (x509.BasicConstraints(ca=False, path_length=None), True)
    assert extension(server, x509.SubjectAlternativeName) == (names, False)
    assert extension(server, x509.ExtendedKeyUsage)[0] == x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    identifier, _ = extension(ca, x509.SubjectKeyIdentifier)
    signer, _ = extension(server, x509.AuthorityKeyIdentifier)
    assert signer.key_identifier == identifier.digest


def test_only_an_rsa_key_may_encipher_keys(ca: CertificateAuthority) -> None:
    assert usages(ca.issue_client("billing")) == {"digital_signature"}
    assert usages(ca.issue_client("billing", key_type="rsa")) == {"digital_signature", "key_encipherment"}


def test_a_client_is_for_no_host(ca: CertificateAuthority) -> None:
    with pytest.raises(x509.ExtensionNotFound):
        extension(ca.issue_client("bus.example"), x509.SubjectAlternativeName)


def test_keys_are_as_large_as_they_should_be(ca: CertificateAuthority, rsa_ca: CertificateAuthority) -> None:
    root, leaf = rsa_ca.certificate.public_key(), ca.issue_client("billing", key_type="rsa").key
    assert isinstance(root, rsa.RSAPublicKey)
    assert isinstance(leaf, rsa.RSAPrivateKey)
    assert (root.key_size, leaf.key_size) == (4096, 3072)
    default = ca.issue_client("billing").key
    assert isinstance(default, ec.EllipticCurvePrivateKey)
    assert default.curve.name == "secp256r1"


def test_serial_numbers_are_random(ca: CertificateAuthority) -> None:
    serials = {ca.issue_client("billing").certificate.serial_number for _ in range(5)}
    assert len(serials) == 5
    assert min(serials).bit_length() > 64


def test_it_begins_a_little_in_the_past_for_clocks_that_are_late(ca: CertificateAuthority) -> None:
    early = datetime.now(UTC) - ca.issue_client("billing").certificate.not_valid_before_utc
    assert timedelta(minutes=1) < early < timedelta(minutes=15)


@pytest.mark.parametrize(("days", "expected"), [(None, 90), (3, 3), (0.5, 0.5)])
def test_it_ends_when_it_should(days: float | None, expected: float, ca: CertificateAuthority) -> None:
    issued = ca.issue_client("billing") if days is None else ca.issue_client("billing", days=days)
    left = issued.certificate.not_valid_after_utc - datetime.now(UTC)
    assert abs(left - timedelta(days=expected)) < timedelta(minutes=1)


def test_nothing_outlives_its_authority() -> None:
    short = CertificateAuthority.create(days=10)
    assert short.issue_server(NAMES).certificate.not_valid_after_utc == short.certificate.not_valid_after_utc
    late = short.issue_client("billing", not_after=NOW + 400 * DAY)
    assert late.certificate.not_valid_after_utc == short.certificate.not_valid_after_utc


def test_an_authority_that_has_ended_signs_no_more() -> None:
    ended = CertificateAuthority.create(days=1e-12)  # nothing is left of it in whole seconds
    with pytest.raises(ConfigurationError, match="make a new one with eventbus certs init"):
        ended.issue_client("billing")


@pytest.mark.parametrize(
    "name",
    [
        "", " ", "two words", "300.1.1.1", "IP:bus.example", "DNS:127.0.0.1", "http://bus", "a..b", "-a.example",
        "a" * 64 + ".example", "user@example.com", "fe80::1%eth0", "*", "a.*.example",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(name: str, ca: CertificateAuthority) -> None:
    with pytest.raises(ConfigurationError, match=r"neither a host name|not an IP address|write IP:"):
        ca.issue_server([name])


def test_a_server_without_a_name_is_refused(ca: CertificateAuthority) -> None:
    with pytest.raises(ConfigurationError, match="at least one name"):
        ca.issue_server([])


def test_one_text_in_the_place_of_names_is_refused(ca: CertificateAuthority) -> None:
    with pytest.raises(ConfigurationError, match="list of names"):
        ca.issue_server("localhost")


def test_names_of_other_scripts_are_written_as_dns_does(ca: CertificateAuthority) -> None:
    names, _ = extension(ca.issue_server(["bücher.example"]), x509.SubjectAlternativeName)
    assert list(names) == [x509.DNSName("xn--bcher-kva.example")]


def test_a_name_too_long_for_a_subject_is_no_hindrance(ca: CertificateAuthority, tmp_path: Path) -> None:
    long = ".".join(["b" * 30] * 4)
    assert shake(ca, saved(ca.issue_server([long]), tmp_path), name=long)


@pytest.mark.parametrize("user", ["", "  ", "a\nb", "a\0b", "u" * 65, "ü" * 33])
def test_a_user_who_fits_into_no_certificate_is_refused(user: str, ca: CertificateAuthority) -> None:
    with pytest.raises(ConfigurationError, match="common name"):
        ca.issue_client(user)


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf"), 1e9])
def test_days_that_are_none_are_refused(days: float, ca: CertificateAuthority) -> None:
    with pytest.raises(ConfigurationError, match="days"):
        ca.issue_client("billing", days=days)


def test_dates_in_the_wrong_order_or_without_a_zone_are_refused(ca: CertificateAuthority) -> None:
    with pytest.raises(ConfigurationError, match="end before it begins"):
        ca.issue_client("billing", not_before=NOW, not_after=NOW - DAY)
    with pytest.raises(ConfigurationError, match="time zone"):
        ca.issue_client("billing", not_after=NOW.replace(tzinfo=None))


def test_a_key_of_an_unknown_type_is_refused(ca: CertificateAuthority) -> None:
    with pytest.raises(ConfigurationError, match='"ecdsa" or "rsa"'):
        ca.issue_client("billing", key_type="dsa")  # type: ignore[arg-type]
