"""TLSConfig: what is wrong with certificates is found before anything is sent, and said in words."""

from __future__ import annotations

import logging
import ssl
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socketpair

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from eventbus_certs import CertificateAuthority
from rich.pretty import pretty_repr

from eventbus import CertificateError, ConfigurationError, Credentials, EventBus, Secret, TLSConfig

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a broker's certificate, and clients' of all kinds."""
    at = tmp_path_factory.mktemp("tls")
    ca, other = CertificateAuthority.create("ours"), CertificateAuthority.create("theirs")
    ca.save(at / "ca")
    other.save(at / "other")
    now = datetime.now(UTC)
    ca.issue_server(["localhost"]).save(at, "server")
    ca.issue_client("billing").save(at, "client")
    ca.issue_client("emails").save(at, "second")
    ca.issue_client("billing").save(at, "locked", password=Secret("S3cr3t"))
    ca.issue_client("billing", not_before=now - 3 * DAY, not_after=now - DAY).save(at, "expired")
    ca.issue_client("billing", not_before=now + DAY, not_after=now + 3 * DAY).save(at, "early")
    ca.issue_client("billing", days=10).save(at, "ending")
    other.issue_client("billing").save(at, "foreign")
    return at


def config(folder: Path, stem: str, **more: object) -> TLSConfig:
    given = {"ca": folder / "ca" / "ca.pem", "certificate": folder / f"{stem}.pem", "key": folder / f"{stem}.key"}
    return TLSConfig(**{**given, **more})  # type: ignore[arg-type]


def handshake(client: TLSConfig, folder: Path, name: str = "localhost") -> str | None:
    """The user that a broker sees; raises what the client's side raises."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    server.load_verify_locations(folder / "ca" / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    ours, theirs = socketpair()
    seen: list[str] = []

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as secured:
                subject = (secured.getpeercert() or {}).get("subject", ())
                seen.extend(str(pair[1]) for part in subject for pair in part)  # type: ignore[misc]
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.context().wrap_socket(ours, server_hostname=client.server_name or name):
            pass
    finally:
        ours.close()
        thread.join(10)
    return seen[0] if seen else None


def test_a_good_certificate_shakes_hands_and_says_who_it_is(folder: Path) -> None:
    assert handshake(config(folder, "client"), folder) == "billing"


def test_bytes_and_functions_do_as_well_as_files(folder: Path) -> None:
    made = config(
        folder,
        "client",
        ca=(folder / "ca" / "ca.pem").read_bytes(),
        certificate=(folder / "client.pem").read_bytes,
        key=(folder / "client.key").read_bytes(),
    )
    assert handshake(made, folder) == "billing"


@pytest.mark.parametrize("password", ["S3cr3t", Secret("S3cr3t"), lambda: "S3cr3t", lambda: Secret("S3cr3t")])
def test_an_encrypted_key_opens_with_its_password(folder: Path, password: str | Secret | Callable[[], str]) -> None:
    assert handshake(config(folder, "locked", key_password=password), folder) == "billing"


def test_the_server_must_have_the_name(folder: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(config(folder, "client"), folder, name="elsewhere.example")
    assert handshake(config(folder, "client", server_name="localhost"), folder, name="elsewhere.example") == "billing"


@pytest.mark.parametrize(
    ("stem", "changes", "said"),
    [
        ("expired", {}, "expired on"),
        ("early", {}, "clock"),
        ("server", {}, "clientAuth"),
        ("foreign", {}, "client_ca"),
        ("client", {"key": "second.key"}, "does not belong to the certificate"),
        ("client", {"key": "client.pem"}, "no private key"),
        ("client", {"certificate": "client.key"}, "holds a private key"),
        ("client", {"certificate": "missing.pem"}, "missing.pem cannot be read"),
        ("client", {"ca": "missing.pem"}, "cannot be read"),
        ("client", {"ca": "client.key"}, "holds a private key"),
        ("locked", {}, "give key_password"),
        ("locked", {"key_password": "wrong"}, "cannot be decrypted"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(
    folder: Path, stem: str, changes: dict[str, str], said: str
) -> None:
    files = {name: folder / text if name != "key_password" else text for name, text in changes.items()}
    with pytest.raises(CertificateError, match=said) as caught:
        config(folder, stem, **files).context()
    assert "S3cr3t" not in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_a_wrong_password_is_no_local_variable_for_error_trackers_to_record(folder: Path) -> None:
    try:
        config(folder, "locked", key_password=Secret("wr0ng")).context()
    except CertificateError as error:
        seen = traceback.TracebackException.from_exception(error, capture_locals=True)
        told = "".join(seen.format())
    assert "Secret(***)" in told
    assert "'wr0ng'" not in told


def expired_authority(folder: Path) -> None:
    """Made by hand: our own authorities are not born expired."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "old")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now - 2 * DAY).not_valid_after(now - DAY)
    made = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256())
    folder.mkdir(exist_ok=True)
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))


def test_an_expired_authority_is_said(folder: Path) -> None:
    expired_authority(folder / "old")
    with pytest.raises(CertificateError, match="the CA in"):
        TLSConfig(ca=folder / "old" / "ca.pem").context()
    both = (folder / "old" / "ca.pem").read_bytes() + (folder / "ca" / "ca.pem").read_bytes()
    TLSConfig(ca=both).context()  # one that is valid is enough


def test_clients_of_another_authority_name_it(folder: Path) -> None:
    config(folder, "foreign", client_ca=folder / "other" / "ca.pem").context()


def test_a_function_that_fails_is_told_without_its_text(folder: Path) -> None:
    def broken() -> bytes:
        raise RuntimeError("the vault's token is S3cr3t")

    with pytest.raises(CertificateError, match="RuntimeError") as caught:
        config(folder, "client", key=broken).context()
    assert "S3cr3t" not in str(caught.value)


def test_a_certificate_that_ends_soon_is_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "eventbus.tls"):
        config(folder, "client").context()
        assert "expires" not in caplog.text
        config(folder, "ending").context()
    assert "expires in 9 days" in caplog.text


def test_a_key_that_others_can_read_is_warned_of(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = tmp_path / "shared.key"
    shared.write_bytes((folder / "client.key").read_bytes())
    shared.chmod(0o644)
    with caplog.at_level(logging.WARNING, "eventbus.tls"):
        config(folder, "client", key=shared).context()
    assert "chmod 600" in caplog.text


def test_it_verifies_unless_told_otherwise_in_ugly_words(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = TLSConfig().context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    with caplog.at_level(logging.WARNING, "eventbus.tls"):
        blind = TLSConfig(dangerously_accept_any_certificate=True).context()
    assert blind.verify_mode is ssl.CERT_NONE
    assert "without verification" in caplog.text


def test_version_and_ciphers() -> None:
    assert TLSConfig(minimum_version="1.3").context().minimum_version is ssl.TLSVersion.TLSv1_3
    names = {cipher["name"] for cipher in TLSConfig(ciphers="ECDHE-RSA-AES256-GCM-SHA384").context().get_ciphers()}
    assert "ECDHE-RSA-AES256-GCM-SHA384" in names
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" not in names
    with pytest.raises(ConfigurationError, match="knows no cipher"):
        TLSConfig(ciphers="NO-SUCH-CIPHER").context()
    with pytest.raises(ConfigurationError, match=r"1\.2"):
        TLSConfig(minimum_version="1.1")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="without its certificate"):
        TLSConfig(key=b"x")


def test_ciphers_cannot_switch_verification_off() -> None:
    """By a server that has no certificate at all."""
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    anonymous.set_ciphers("aNULL:@SECLEVEL=0")
    anonymous.maximum_version = ssl.TLSVersion.TLSv1_2
    ours, theirs = socketpair()

    def serve() -> None:
        with theirs, pytest.raises(OSError, match="SHARED_CIPHER"):
            anonymous.wrap_socket(theirs, server_side=True)

    thread = threading.Thread(target=serve)
    thread.start()
    with ours, pytest.raises(ssl.SSLError):
        TLSConfig(ciphers="ALL:@SECLEVEL=0").context().wrap_socket(ours, server_hostname="bank.example")
    thread.join(10)
    assert not thread.is_alive()
    with pytest.raises(ConfigurationError, match="knows no cipher"):
        TLSConfig(ciphers="aNULL:@SECLEVEL=0").context()


def test_no_key_shows_in_its_repr(folder: Path) -> None:
    made = config(folder, "client", key=(folder / "client.key").read_bytes(), key_password="S3cr3t")
    for shown in (repr(made), pretty_repr(made)):
        assert "S3cr3t" not in shown
        assert "PRIVATE" not in shown
        assert "client.pem" in shown


@pytest.mark.parametrize("name", ["ca", "certificate", "key", "client_ca"])
def test_a_key_given_as_text_is_not_taken_for_a_path_and_not_shown(folder: Path, name: str) -> None:
    text = (folder / "client.key").read_text()
    with pytest.raises(ConfigurationError, match=r"text\.encode\(\)") as caught:
        config(folder, "client", **{name: text})
    assert text.splitlines()[1] not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"), [(7, "not int"), ("", "no path"), ("a\0b", "no path"), (bytearray(), "not")]
)
def test_what_is_no_source_is_said(value: object, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        TLSConfig(ca=value)  # type: ignore[arg-type]


def test_a_password_that_cannot_be_had_is_told_without_its_text(folder: Path) -> None:
    def broken() -> str:
        raise RuntimeError("the vault's token is S3cr3t")

    with pytest.raises(CertificateError, match="key_password: its function raised RuntimeError") as caught:
        config(folder, "locked", key_password=broken).context()
    assert "S3cr3t" not in str(caught.value)
    with pytest.raises(CertificateError, match="text or a Secret, not bytes"):
        config(folder, "locked", key_password=b"S3cr3t").context()


def test_what_only_openssl_refuses_is_our_error_too() -> None:
    now = datetime.now(UTC)
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "short")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = builder.serial_number(7).not_valid_before(now - DAY).not_valid_after(now + DAY).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(CertificateError, match="key too small"):
        TLSConfig(certificate=made.public_bytes(pem), key=plain).context()


def test_the_given_key_is_taken_although_the_certificates_file_holds_another(folder: Path) -> None:
    both = (folder / "client.pem").read_bytes() + (folder / "second.key").read_bytes()
    assert handshake(config(folder, "client", certificate=both), folder) == "billing"


def test_secrets_are_text_and_passwords_secrets() -> None:
    with pytest.raises(ConfigurationError, match="is its variable"):
        Secret(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="Secret") as caught:
        Credentials("billing", "S3cr3t")  # type: ignore[arg-type]
    assert "S3cr3t" not in str(caught.value)


def test_when_it_ends_is_known(folder: Path) -> None:
    ends = config(folder, "ending").expires()
    assert ends is not None
    assert 9 < (ends - datetime.now(UTC).timestamp()) / 86400 <= 10
    assert TLSConfig().expires() is None


def test_a_transport_without_tls_says_so() -> None:
    with pytest.raises(ConfigurationError, match="neither tls="):
        EventBus("memory://", tls=TLSConfig())
    bus = EventBus("memory://", service="s")
    with pytest.raises(ConfigurationError, match="not running"):
        bus.reload_tls()
    with bus, pytest.raises(ConfigurationError, match="no TLS"):
        bus.reload_tls()
