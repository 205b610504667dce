"""Certificates and keys as files: who may read them, what is never overwritten, and what a password guards."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from eventbus_certs import CertificateAuthority

from eventbus import CertificateError, ConfigurationError, EventBusError, Secret

PASSWORD = "correct horse battery staple"


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Nothing but the code itself keeps others from reading."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("no_umask")
def test_keys_are_for_their_owner_only_and_certificates_for_all(ca: CertificateAuthority, tmp_path: Path) -> None:
    root, root_key = ca.save(tmp_path)
    certificate, key = ca.issue_client("billing").save(tmp_path, "billing")
    assert [mode(path) for path in (root_key, key)] == [0o600, 0o600]
    assert [mode(path) for path in (root, certificate)] == [0o644, 0o644]


@pytest.mark.usefixtures("no_umask")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_key_is_private_from_its_first_moment(
    overwrite: bool, ca: CertificateAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if overwrite:
        ca.save(tmp_path)
    opened: list[tuple[str, int, int]] = []
    original: Callable[..., int] = os.open

    def watched(path: str, flags: int, mode: int = 0o777, **options: int) -> int:
        opened.append((str(path), flags, mode))
        return original(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", watched)
    ca.save(tmp_path, overwrite=overwrite)
    keys = [(flags, mode) for path, flags, mode in opened if "ca.key" in path]
    assert len(keys) == 1
    assert keys[0][0] & os.O_EXCL
    assert keys[0][0] & os.O_CREAT
    assert keys[0][1] == 0o600


def test_folders_are_made(ca: CertificateAuthority, tmp_path: Path) -> None:
    assert all(path.exists() for path in ca.save(tmp_path / "a" / "b"))


def test_an_authority_that_is_there_is_kept(
    ca: CertificateAuthority, other_ca: CertificateAuthority, tmp_path: Path
) -> None:
    files = ca.save(tmp_path)
    before = [file.read_bytes() for file in files]
    with pytest.raises(ConfigurationError, match="choose another folder"):
        other_ca.save(tmp_path)
    assert [file.read_bytes() for file in files] == before


def test_the_key_alone_of_an_authority_is_kept_too(
    ca: CertificateAuthority, other_ca: CertificateAuthority, tmp_path: Path
) -> None:
    root, key = ca.save(tmp_path)
    root.unlink()
    before = key.read_bytes()
    with pytest.raises(ConfigurationError, match="choose another folder"):
        other_ca.save(tmp_path)
    assert key.read_bytes() == before
    assert not root.exists()


def test_an_authority_is_overwritten_on_request(
    ca: CertificateAuthority, other_ca: CertificateAuthority, tmp_path: Path
) -> None:
    ca.save(tmp_path)
    other_ca.save(tmp_path, overwrite=True)
    assert CertificateAuthority.load(tmp_path).certificate == other_ca.certificate


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_user_who_is_called_as_the_authority_does_not_cost_it(
    overwrite: bool, ca: CertificateAuthority, tmp_path: Path
) -> None:
    before = [path.read_bytes() for path in ca.save(tmp_path)]
    with pytest.raises(ConfigurationError, match="is an authority"):
        ca.issue_client("ca").save(tmp_path, "ca", overwrite=overwrite)
    assert [(tmp_path / name).read_bytes() for name in ("ca.pem", "ca.key")] == before


@pytest.mark.parametrize("there", ["billing.pem", "billing.key"])
def test_of_a_pair_both_files_are_new_or_none_is_written(there: str, ca: CertificateAuthority, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(ConfigurationError, match=rf"{there} exists already"):
        ca.issue_client("billing").save(tmp_path, "billing")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_link_to_nowhere_is_not_followed(ca: CertificateAuthority, tmp_path: Path) -> None:
    (tmp_path / "billing.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="exists already"):
        ca.issue_client("billing").save(tmp_path, "billing")
    assert not (tmp_path / "elsewhere").exists()


def test_a_pair_is_overwritten_on_request(ca: CertificateAuthority, tmp_path: Path) -> None:
    first, second = ca.issue_client("billing"), ca.issue_client("billing")
    first.save(tmp_path, "billing")
    certificate, _ = second.save(tmp_path, "billing", overwrite=True)
    assert x509.load_pem_x509_certificate(certificate.read_bytes()) == second.certificate
    assert sorted(path.name for path in tmp_path.iterdir()) == ["billing.key", "billing.pem"]


@pytest.mark.parametrize("stem", ["", ".", "..", "../billing", "a/b", "a\0b"])
def test_the_name_of_files_is_no_path(stem: str, ca: CertificateAuthority, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the name of files"):
        ca.issue_client("billing").save(tmp_path / "inner", stem)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_told(ca: CertificateAuthority, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="is not a folder"):
        ca.save(tmp_path / "file")
    with pytest.raises(ConfigurationError, match=r"cannot be written: Not a directory"):
        ca.save(tmp_path / "file" / "below")


def test_a_loaded_authority_signs_as_before(ca: CertificateAuthority, tmp_path: Path) -> None:
    root, key = ca.save(tmp_path)
    for loaded in (
        CertificateAuthority.load(tmp_path),
        CertificateAuthority.load(root),
        CertificateAuthority.load(root.rename(tmp_path / "root.crt"), key_file=key),
    ):
        loaded.issue_client("billing").certificate.verify_directly_issued_by(ca.certificate)


@pytest.mark.parametrize("password", [PASSWORD, Secret(PASSWORD)])
def test_an_encrypted_key_needs_its_password(password: str | Secret, ca: CertificateAuthority, tmp_path: Path) -> None:
    _, key = ca.save(tmp_path, password=password)
    assert key.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(CertificateError, match="is encrypted: its password is needed"):
        CertificateAuthority.load(tmp_path)
    with pytest.raises(CertificateError, match="cannot be decrypted with this password"):
        CertificateAuthority.load(tmp_path, password="another")
    assert CertificateAuthority.load(tmp_path, password=password).certificate == ca.certificate


def test_a_plain_key_is_pkcs8_and_takes_any_password(ca: CertificateAuthority, tmp_path: Path) -> None:
    _, key = ca.save(tmp_path)
    assert key.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert CertificateAuthority.load(tmp_path, password="unneeded").certificate == ca.certificate


@pytest.mark.parametrize("password", ["", PASSWORD * 50])
def test_a_password_that_openssl_could_not_read_is_refused(
    password: str, ca: CertificateAuthority, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="1 to 1023 bytes") as caught:
        ca.save(tmp_path, password=password)
    assert PASSWORD not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_neither_password_nor_key_is_in_any_text(ca: CertificateAuthority, tmp_path: Path) -> None:
    _, key = ca.save(tmp_path, password="right")
    (tmp_path / "ca.pem").write_bytes(
        CertificateAuthority.create().certificate.public_bytes(serialization.Encoding.PEM)
    )
    texts = [repr(ca), repr(ca.issue_client("billing"))]
    for password in (PASSWORD, "right"):
        with pytest.raises(EventBusError) as caught:
            CertificateAuthority.load(tmp_path, password=password)
        texts += [str(caught.value), repr(caught.value)]
    body = key.read_text().splitlines()[1]
    assert not [text for text in texts if PASSWORD in text or "right" in text or body in text]
    assert texts[:2] == ["CertificateAuthority('CN=Test CA')", "Issued('CN=billing')"]


def write_garbage(folder: Path, ca: CertificateAuthority) -> None:
    (folder / "ca.pem").write_text("garbage")


def write_key_for_certificate(folder: Path, ca: CertificateAuthority) -> None:
    (folder / "ca.pem").write_bytes((folder / "ca.key").read_bytes())


def write_no_key(folder: Path, ca: CertificateAuthority) -> None:
    (folder / "ca.key").unlink()


def write_garbage_for_key(folder: Path, ca: CertificateAuthority) -> None:
    (folder / "ca.key").write_text("garbage")


def write_key_of_another(folder: Path, ca: CertificateAuthority) -> None:
    ca.issue_client("billing").save(folder, "billing")
    (folder / "billing.key").replace(folder / "ca.key")


def write_no_authority(folder: Path, ca: CertificateAuthority) -> None:
    ca.issue_client("billing").write(folder / "ca.pem", folder / "ca.key", overwrite=True)


def write_key_of_another_kind(folder: Path, ca: CertificateAuthority) -> None:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key = ed25519.Ed25519PrivateKey.generate()
    (folder / "ca.key").write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))


def write_nothing(folder: Path, ca: CertificateAuthority) -> None:
    (folder / "ca.pem").unlink()


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (write_nothing, "there is no authority in .* make one with eventbus certs init"),
        (write_garbage, r"ca\.pem holds no certificate"),
        (write_key_for_certificate, r"ca\.pem holds a private key, where a certificate belongs"),
        (write_no_authority, r"ca\.pem is not the certificate of an authority"),
        (write_no_key, r"ca\.key cannot be read: No such file"),
        (write_garbage_for_key, r"ca\.key holds no private key"),
        (write_key_of_another, r"ca\.key does not belong to the certificate .*ca\.pem"),
        (write_key_of_another_kind, r"ca\.key holds a key of a kind that is not used here"),
    ],
)
def test_an_authority_that_cannot_be_used_is_told(
    spoil: Callable[[Path, CertificateAuthority], None], text: str, ca: CertificateAuthority, tmp_path: Path
) -> None:
    ca.save(tmp_path)
    spoil(tmp_path, ca)
    with pytest.raises(CertificateError, match=text) as caught:
        CertificateAuthority.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_below_an_intermediate_authority_the_file_holds_the_chain_without_the_root(tmp_path: Path) -> None:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now, root_key, key = datetime.now(UTC), *(ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    made = [
        x509.CertificateBuilder(named("root"), named(subject), own.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(root_key, hashes.SHA256())
        for subject, own in (("between", key), ("root", root_key))
    ]
    (tmp_path / "ca.pem").write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in made))
    form = serialization.PrivateFormat.PKCS8
    (tmp_path / "ca.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    issued = CertificateAuthority.load(tmp_path).issue_client("billing")
    certificate, _ = issued.save(tmp_path, "billing")
    subjects = [each.subject.rfc4514_string() for each in x509.load_pem_x509_certificates(certificate.read_bytes())]
    assert subjects == ["CN=billing", "CN=between"]
