"""Renewing: the same certificate with new dates, in files that a running service reads at any moment."""

from __future__ import annotations

import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import eventbus_certs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from eventbus_certs import CertificateAuthority, CertificateInfo, Issued, renew
from eventbus_certs._authority import dates_of

from eventbus import CertificateError, ConfigurationError
from tests.certs.handshakes import Pair, saved, shake

NAMES = ["localhost", "127.0.0.1", "bus.example"]


@pytest.fixture
def pair(ca: CertificateAuthority, tmp_path: Path) -> Pair:
    """A server's certificate with 20 days left."""
    now = datetime.now(UTC)
    begins, ends = now - timedelta(days=10), now + timedelta(days=20)
    return saved(ca.issue_server(NAMES, not_before=begins, not_after=ends), tmp_path)


def read(pair: Pair) -> tuple[bytes, bytes]:
    return pair.certificate.read_bytes(), pair.key.read_bytes()


def seen(pair: Pair) -> CertificateInfo:
    return eventbus_certs.inspect(pair.certificate)[0]


def fits(pair: Pair, password: bytes | None = None) -> bool:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), password)
    return key.public_key() == x509.load_pem_x509_certificate(pair.certificate.read_bytes()).public_key()


def test_names_and_usages_stay_and_serial_dates_and_key_are_new(ca: CertificateAuthority, pair: Pair) -> None:
    old, (_, old_key) = seen(pair), read(pair)
    issued = renew(pair.certificate, ca)
    new = seen(pair)
    assert (new.subject, new.names, new.usages, new.key_type, new.key_size) == (
        old.subject, old.names, old.usages, old.key_type, old.key_size,
    )  # fmt: skip
    assert new.serial != old.serial
    assert new.days_left == 29
    assert int(new.serial, 16) == issued.certificate.serial_number
    assert pair.key.read_bytes() != old_key
    assert fits(pair)


def test_a_renewed_certificate_is_taken(ca: CertificateAuthority, pair: Pair) -> None:
    renew(pair.certificate, ca)
    assert shake(ca, pair, name="bus.example")


def test_a_client_stays_the_same_user(ca: CertificateAuthority, pair: Pair, tmp_path: Path) -> None:
    client = saved(ca.issue_client("billing"), tmp_path, "billing")
    renew(client.certificate, ca)
    talk = shake(ca, pair, client=client, mutual=True)
    assert talk.seen_by_server["subject"] == ((("commonName", "billing"),),)


def test_an_expired_one_is_good_again(ca: CertificateAuthority, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    expired = ca.issue_server(NAMES, not_before=now - timedelta(days=9), not_after=now - timedelta(days=2))
    pair = saved(expired, tmp_path)
    renew(pair.certificate, ca)
    assert shake(ca, pair)


def test_the_key_stays_on_request(ca: CertificateAuthority, pair: Pair) -> None:
    old, (_, old_key), inode = seen(pair), read(pair), pair.key.stat().st_ino
    renew(pair.certificate, ca, keep_key=True)
    assert pair.key.read_bytes() == old_key
    assert pair.key.stat().st_ino == inode
    assert seen(pair).serial != old.serial
    assert fits(pair)


def test_days_can_be_given(ca: CertificateAuthority, pair: Pair) -> None:
    renew(pair.certificate, ca, days=7.5)
    assert seen(pair).days_left == 7


def test_life_grows_by_no_minute_however_often_it_is_renewed(ca: CertificateAuthority, pair: Pair) -> None:
    old = seen(pair)
    for _ in range(3):
        renew(pair.certificate, ca)
    new = seen(pair)
    assert abs((new.not_after - new.not_before) - (old.not_after - old.not_before)) <= timedelta(seconds=1)


def test_rsa_stays_rsa_and_an_other_curve_itself(ca: CertificateAuthority, tmp_path: Path) -> None:
    rsa = saved(ca.issue_client("billing", key_type="rsa"), tmp_path, "rsa")
    renew(rsa.certificate, ca)
    assert (seen(rsa).key_type, seen(rsa).key_size) == ("rsa", 3072)

    subject, key = ca.issue_client("billing").certificate.subject, ec.generate_private_key(ec.SECP384R1())
    signed = ca.sign(subject, key, dates_of(9), usages=[ExtendedKeyUsageOID.CLIENT_AUTH])
    larger = saved(signed, tmp_path, "ec")
    renew(larger.certificate, ca)
    assert (seen(larger).key_type, seen(larger).key_size) == ("ecdsa", 384)


def test_an_encrypted_key_stays_encrypted(ca: CertificateAuthority, tmp_path: Path) -> None:
    pair = Pair(*ca.issue_client("billing").save(tmp_path, "billing", password="s3cret"))
    before = read(pair)
    with pytest.raises(CertificateError, match="password is needed"):
        renew(pair.certificate, ca)
    assert read(pair) == before
    renew(pair.certificate, ca, password="s3cret")
    assert pair.key.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert fits(pair, b"s3cret")


def test_another_authority_can_take_it_over(
    ca: CertificateAuthority, other_ca: CertificateAuthority, pair: Pair
) -> None:
    renew(pair.certificate, other_ca)
    assert shake(other_ca, pair)


def test_the_key_may_have_another_name(ca: CertificateAuthority, pair: Pair) -> None:
    moved = Pair(pair.certificate, pair.key.rename(pair.key.with_name("private.pem")))
    with pytest.raises(CertificateError, match=r"server\.key cannot be read"):
        renew(moved.certificate, ca)
    renew(moved.certificate, ca, key_file=moved.key)
    assert fits(moved)


def test_who_may_read_the_files_stays_as_it_was(ca: CertificateAuthority, pair: Pair) -> None:
    pair.key.chmod(0o640)
    pair.certificate.chmod(0o664)
    renew(pair.certificate, ca)
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o640
    assert stat.S_IMODE(pair.certificate.stat().st_mode) == 0o664


def test_a_key_that_all_could_read_is_closed(ca: CertificateAuthority, pair: Pair) -> None:
    pair.key.chmod(0o644)
    renew(pair.certificate, ca)
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_renews_still_belongs_to_the_brokers_user(ca: CertificateAuthority, pair: Pair) -> None:
    for file in pair:
        os.chown(file, 4711, 4712)
    renew(pair.certificate, ca)
    assert [(file.stat().st_uid, file.stat().st_gid) for file in pair] == [(4711, 4712)] * 2


def test_files_of_another_user_are_left_alone_where_they_could_not_be_given_back(
    ca: CertificateAuthority, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(pair)
    real = os.stat

    def stranger(path: Any, **options: Any) -> Any:
        found = real(path, **options)
        return os.stat_result((*found[:4], found.st_uid + 1, *found[5:])) if str(path).endswith(".key") else found

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "stat", stranger)
    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(ConfigurationError, match="as that user, or as root"):
        renew(pair.certificate, ca)
    monkeypatch.undo()
    assert read(pair) == before
    assert len(list(pair.key.parent.iterdir())) == 2


def test_a_link_stays_one(ca: CertificateAuthority, pair: Pair, tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    for file in pair:
        (live / file.name).symlink_to(file)
    old = seen(pair).serial
    renew(live / pair.certificate.name, ca)
    assert (live / pair.certificate.name).is_symlink()
    assert (live / pair.key.name).is_symlink()
    assert seen(pair).serial != old
    assert fits(pair)


def test_the_new_key_is_there_before_its_certificate(
    ca: CertificateAuthority, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real = os.replace

    def watched(source: Path, target: Path) -> None:
        real(source, target)
        order.append(target.name)

    monkeypatch.setattr(os, "replace", watched)
    renew(pair.certificate, ca)
    assert order == ["server.key", "server.pem"]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_when_it_fails_the_old_pair_is_in_place_and_nothing_beside_it(
    step: str, ca: CertificateAuthority, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(pair)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(ConfigurationError, match="cannot be written: No space left on device"):
        renew(pair.certificate, ca)
    monkeypatch.undo()
    assert read(pair) == before
    assert len(list(pair.key.parent.iterdir())) == 2


def test_a_disk_that_is_full_at_the_second_file_changes_neither(
    ca: CertificateAuthority, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real, calls = read(pair), os.fsync, []

    def full_later(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full_later)
    with pytest.raises(ConfigurationError, match=r"server\.pem cannot be written"):
        renew(pair.certificate, ca)
    monkeypatch.undo()
    assert read(pair) == before


def test_a_reader_sees_whole_files_at_every_moment(ca: CertificateAuthority, pair: Pair) -> None:
    done, wrong, rounds = threading.Event(), [], 0

    def watch() -> None:
        nonlocal rounds
        while not done.is_set():
            rounds += 1
            try:
                x509.load_pem_x509_certificate(pair.certificate.read_bytes())
                serialization.load_pem_private_key(pair.key.read_bytes(), None)
            except (OSError, ValueError) as error:
                wrong.append(error)

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for _ in range(40):
            renew(pair.certificate, ca)
    finally:
        done.set()
        reader.join(20)
    assert rounds > 5
    assert wrong == []
    assert fits(pair)


def test_an_authority_is_not_renewed(ca: CertificateAuthority, tmp_path: Path) -> None:
    root, _ = ca.save(tmp_path)
    with pytest.raises(ConfigurationError, match="is an authority, which is not renewed but replaced"):
        renew(root, ca)


def test_one_that_does_not_say_what_it_is_for_is_not_renewed(ca: CertificateAuthority, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now, name = datetime.now(UTC), ca.certificate.subject
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    certificate, _ = Issued(certificate=made, key=key).save(tmp_path, "plain")
    with pytest.raises(ConfigurationError, match="does not say whether it is for a server or a client"):
        renew(certificate, ca)


def test_it_ends_with_its_authority(pair: Pair) -> None:
    short = CertificateAuthority.create(days=3)
    renew(pair.certificate, short)
    assert seen(pair).not_after == short.certificate.not_valid_after_utc
