"""``eventbus certs``: what it writes, what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click
import eventbus_certs
import pytest
from eventbus_certs import CertificateAuthority
from eventbus_certs._cli import certs

from eventbus._cli.root import run_command
from tests.certs.handshakes import Pair, shake


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``eventbus certs ...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("EVENTBUS")]:
        monkeypatch.delenv(name)

    def command(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        code = run_command(["certs", *map(str, arguments)])
        return Ran(code, *capsys.readouterr())

    return command


def info(file: str) -> eventbus_certs.CertificateInfo:
    return eventbus_certs.inspect(file)[0]


def save_with_days(ca: CertificateAuthority, stem: str, days: float) -> None:
    now = datetime.now(UTC)
    issued = ca.issue_client(stem, not_before=now - timedelta(days=30), not_after=now + timedelta(days=days))
    issued.save("certs", stem)


def test_from_nothing_to_a_handshake_in_three_commands(run: Run) -> None:
    assert run("init").code == 0
    assert run("issue", "server").code == 0
    assert run("issue", "client", "--cn", "billing").code == 0
    server = Pair(Path("certs/server.pem"), Path("certs/server.key"))
    client = Pair(Path("certs/billing.pem"), Path("certs/billing.key"))
    for name in ("localhost", "127.0.0.1", "::1"):
        talk = shake(Path("certs/ca.pem"), server, name=name, client=client, mutual=True)
        assert talk.seen_by_server["subject"] == ((("commonName", "billing"),),)


def test_init_makes_the_authority_that_it_is_asked_for(run: Run) -> None:
    ran = run("init", "root", "--name", "Acme bus", "--days", "100", "--key-type", "rsa")
    assert ran.code == 0
    assert "CN=Acme bus, RSA 4096, until" in ran.out
    assert "root/ca.key: its private key (mode 600)" in ran.out
    found = info("root/ca.pem")
    assert (found.common_name, found.days_left, found.key_size) == ("Acme bus", 99, 4096)


def test_the_folder_of_the_authority_can_be_a_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTBUS_CERTS", "elsewhere")
    assert run("init").code == 0
    assert run("issue", "server").code == 0
    assert sorted(os.listdir("elsewhere")) == ["ca.key", "ca.pem", "server.key", "server.pem"]
    assert not Path("certs").exists()


def test_an_authority_is_never_overwritten(run: Run) -> None:
    run("init")
    before = Path("certs/ca.pem").read_bytes()
    ran = run("init")
    assert ran.code == 78
    assert ran.err == (
        "error: there is an authority in certs already, and what it signed depends on it: choose another folder\n"
    )
    assert Path("certs/ca.pem").read_bytes() == before


@pytest.mark.parametrize(
    "arguments", [("issue", "server"), ("issue", "client", "--cn", "billing"), ("renew", "some.pem")]
)
def test_without_an_authority_it_says_how_to_make_one(run: Run, arguments: tuple[str, ...]) -> None:
    Path("some.pem").write_text("")
    ran = run(*arguments, "--ca", "nowhere")
    assert ran.code == 78
    assert ran.err == "error: there is no authority in nowhere: make one with eventbus certs init nowhere\n"


def test_names_of_a_server_can_be_given_together_and_one_by_one(run: Run) -> None:
    run("init")
    ran = run("issue", "server", "bus1", "--san", "DNS:bus.example, IP:10.0.0.5", "--san", "two.example", "--out", "x")
    assert ran.code == 0
    assert info("x/bus1.pem").names == ("DNS:bus.example", "IP:10.0.0.5", "DNS:two.example")
    assert "for DNS:bus.example, IP:10.0.0.5, DNS:two.example, ECDSA 256, until" in ran.out


@pytest.mark.parametrize("san", ["300.1.1.1", "IP:bus", "DNS:a b", "ok.example,,http://bus"])
def test_a_name_that_is_none_is_wrong_usage(run: Run, san: str) -> None:
    run("init")
    ran = run("issue", "server", "--san", san)
    assert ran.code == 64
    assert "Invalid value for '--san'" in ran.err
    assert not Path("certs/server.pem").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("issue", "client"),
        ("issue", "server", "--days", "0"),
        ("init", "--key-type", "dsa"),
        ("inspect",),
        ("inspect", "missing.pem"),
        ("bundle", "missing.pem"),
        ("renew", "--if-within", "-1", "x"),
    ],
)
def test_wrong_usage_is_told_and_makes_nothing(run: Run, arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert ran.code == 64
    assert "Usage: eventbus certs" in ran.err
    assert os.listdir() == []


def test_files_of_a_certificate_are_overwritten_only_on_request(run: Run) -> None:
    run("init")
    run("issue", "server")
    serial = info("certs/server.pem").serial
    ran = run("issue", "server")
    assert ran.code == 78
    assert "certs/server.key exists already" in ran.err
    assert info("certs/server.pem").serial == serial
    assert run("issue", "server", "--overwrite").code == 0
    assert info("certs/server.pem").serial != serial


def test_a_users_name_becomes_the_name_of_its_files(run: Run) -> None:
    run("init")
    assert run("issue", "client", "--cn", "shop/billing", "--days", "3").code == 0
    assert run("issue", "client", "--cn", "billing", "--name", "other").code == 0
    assert info("certs/shop_billing.pem").common_name == "shop/billing"
    assert info("certs/shop_billing.pem").days_left == 2
    assert info("certs/other.pem").common_name == "billing"


def test_a_folder_that_cannot_be_written_to_is_told(run: Run) -> None:
    run("init")
    Path("file").write_text("")
    ran = run("issue", "server", "--out", "file/below")
    assert ran.code == 78
    assert ran.err == "error: file/below/server.key cannot be written: Not a directory\n"


@contextmanager
def without_roots_rights() -> Iterator[None]:
    """Root may write everywhere, so meanwhile this process is nobody, to whom the current folder belongs."""
    if os.geteuid() != 0:
        yield
        return
    for path in (Path(), *Path().rglob("*")):
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_missing_permission_is_told(run: Run) -> None:
    run("init")
    Path("closed").mkdir(mode=0o500)
    with without_roots_rights():
        ran = run("issue", "server", "--out", "closed")
    assert ran.code == 78
    assert ran.err == "error: closed/server.key cannot be written: Permission denied\n"


def test_json_is_one_document(run: Run) -> None:
    made = run("init", "--json").json
    assert made["key"] == "certs/ca.key"
    assert made["certificate"]["is_ca"] is True
    server = run("issue", "server", "--json").json
    assert server["certificate"]["names"] == ["DNS:localhost", "IP:127.0.0.1", "IP:::1"]
    client = run("issue", "client", "--cn", "billing", "--json").json
    assert client["certificate"]["common_name"] == "billing"
    told = run("inspect", "certs/server.pem", "certs/ca.pem", "--json").json
    assert [each["serial"] for each in told] == [server["certificate"]["serial"], made["certificate"]["serial"]]
    renewed = run("renew", "certs/server.pem", "--json").json
    assert [(each["file"], each["renewed"]) for each in renewed] == [("certs/server.pem", True)]
    assert renewed[0]["serial"] == info("certs/server.pem").serial != server["certificate"]["serial"]
    assert run("bundle", "certs/ca.pem", "--out", "b.pem", "--json").json == {"file": "b.pem", "authorities": 1}


def test_renew_takes_only_what_is_due(run: Run, ca: CertificateAuthority) -> None:
    ca.save("certs")
    save_with_days(ca, "soon", 10)
    save_with_days(ca, "later", 40.5)
    ran = run("renew", "certs/ca.pem", "certs/later.pem", "certs/soon.pem", "--if-within", "30")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert lines[0] == "certs/ca.pem: an authority, left as it is"
    assert lines[1] == "certs/later.pem: left as it is, 40 days left"
    assert lines[2] == f"certs/soon.pem: renewed, 39 days left, serial {info('certs/soon.pem').serial}"
    assert info("certs/later.pem").days_left == 40


def test_renew_goes_on_after_one_that_it_cannot_renew(run: Run, ca: CertificateAuthority) -> None:
    ca.save("certs")
    save_with_days(ca, "keyless", 10)
    save_with_days(ca, "soon", 10)
    Path("certs/keyless.key").unlink()
    ran = run("renew", "certs/keyless.pem", "certs/soon.pem", "--days", "50")
    assert ran.code == 78
    assert ran.err == "error: certs/keyless.key cannot be read: No such file or directory\n"
    assert ran.out.startswith("certs/soon.pem: renewed, 49 days left")
    told = run("renew", "certs/keyless.pem", "--json")
    assert told.code == 78
    assert told.json[0]["error"] == "certs/keyless.key cannot be read: No such file or directory"


def test_renew_says_when_the_authority_itself_is_about_to_end(run: Run) -> None:
    run("init", "--days", "5")
    run("issue", "server", "--days", "2")
    assert "the authority itself ends then" in run("renew", "certs/server.pem", "--days", "90").out
    assert "the authority" not in run("renew", "certs/server.pem", "--days", "2").out


def test_renew_keeps_the_key_on_request(run: Run) -> None:
    run("init")
    run("issue", "server")
    key = Path("certs/server.key").read_bytes()
    run("renew", "certs/server.pem", "--keep-key")
    assert Path("certs/server.key").read_bytes() == key
    run("renew", "certs/server.pem")
    assert Path("certs/server.key").read_bytes() != key


def test_inspect_shows_a_table_for_people(run: Run) -> None:
    run("init", "--name", "[red]Acme[/red]")
    run("issue", "server")
    ran = run("inspect", "certs/ca.pem", "certs/server.pem")
    assert ran.code == 0
    lines = [line for line in ran.out.splitlines() if line.strip()]
    assert " ".join(lines[0].split()) == "file subject signed by for names until days left key"
    assert "CN=[red]Acme[/red]" in lines[2]
    assert "authority" in lines[2]
    assert "DNS:localhost, IP:127.0.0.1, IP:::1" in lines[3]
    assert "396" in lines[3]


@pytest.mark.parametrize(("days", "warn", "code"), [(10.5, 0, 0), (10.5, 10, 0), (10.5, 11, 1), (-1.5, 0, 1)])
def test_inspect_tells_a_timer_by_its_exit_code(
    run: Run, days: float, warn: int, code: int, ca: CertificateAuthority
) -> None:
    ca.save("certs")
    save_with_days(ca, "billing", days)
    ran = run("inspect", "certs/ca.pem", "certs/billing.pem", "--warn-days", str(warn))
    assert ran.code == code
    assert ("expired" in ran.out) is (days < 0)
    assert run("inspect", "certs/billing.pem", "--warn-days", str(warn), "--json").code == code


def test_inspect_of_a_key_says_what_it_is(run: Run) -> None:
    run("init")
    ran = run("inspect", "certs/ca.key")
    assert ran.code == 78
    assert ran.err == "error: certs/ca.key holds a private key, where a certificate belongs\n"


def test_a_strangers_certificate_cannot_speak_to_the_terminal(run: Run, ca: CertificateAuthority) -> None:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    from eventbus_certs._authority import dates_of

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "\x1b]0;owned\x07")])
    key = ca.issue_client("x").key
    ca.sign(subject, key, dates_of(1), usages=[ExtendedKeyUsageOID.CLIENT_AUTH]).save(".", "bad")
    ran = run("inspect", "bad.pem")
    assert "owned" in ran.out
    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out


def test_bundle_moves_clients_from_one_authority_to_the_next(run: Run) -> None:
    run("init", "old")
    run("init", "new")
    run("issue", "server", "--ca", "old", "--out", ".")
    server = Pair(Path("server.pem"), Path("server.key"))
    assert run("bundle", "old/ca.pem", "new/ca.pem", "--out", "trusted.pem").out == "trusted.pem: 2 authorities\n"
    assert shake(Path("trusted.pem"), server)
    assert run("renew", "server.pem", "--ca", "new").code == 0
    assert shake(Path("trusted.pem"), server)
    assert shake(Path("new/ca.pem"), server)


def test_bundle_refuses_a_servers_certificate(run: Run) -> None:
    run("init")
    run("issue", "server")
    ran = run("bundle", "certs/ca.pem", "certs/server.pem", "--out", "trusted.pem")
    assert ran.code == 78
    assert "certs/server.pem: 'CN=localhost' is not an authority" in ran.err
    assert not Path("trusted.pem").exists()


PASSWORD = "correct horse"


def test_passwords_come_from_files(run: Run) -> None:
    Path("ca.txt").write_text(f"{PASSWORD}\nnot this line\n")
    Path("key.txt").write_text("another\n")
    assert run("init", "--password-file", "ca.txt").code == 0
    refused = run("issue", "server")
    assert refused.code == 78
    assert refused.err == (
        "error: the private key certs/ca.key is encrypted: give --ca-password-file, or set EVENTBUS_CERTS_PASSWORD\n"
    )
    wrong = run("issue", "server", "--ca-password-file", "key.txt")
    assert (wrong.code, "cannot be decrypted" in wrong.err) == (78, True)
    assert run("issue", "server", "--ca-password-file", "ca.txt", "--password-file", "key.txt").code == 0
    assert b"ENCRYPTED" in Path("certs/server.key").read_bytes()
    needed = run("renew", "certs/server.pem", "--ca-password-file", "ca.txt")
    assert (needed.code, "give --password-file, or set EVENTBUS_CERTS_KEY_PASSWORD" in needed.err) == (78, True)
    assert run("renew", "certs/server.pem", "--ca-password-file", "ca.txt", "--password-file", "key.txt").code == 0
    assert CertificateAuthority.load("certs", password=PASSWORD)


def test_passwords_come_from_variables(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("secret").write_text("another\n")
    monkeypatch.setenv("EVENTBUS_CERTS_PASSWORD", PASSWORD)
    monkeypatch.setenv("EVENTBUS_CERTS_KEY_PASSWORD_FILE", "secret")
    assert run("init").code == 0
    assert run("issue", "server").code == 0
    assert run("renew", "certs/server.pem").code == 0
    assert CertificateAuthority.load("certs", password=PASSWORD)
    assert b"ENCRYPTED" in Path("certs/server.key").read_bytes()


def test_passwords_are_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def answer(text: str, *, hide_input: bool, **_: Any) -> str:
        asked.append((text, hide_input))
        return PASSWORD

    monkeypatch.setattr(click, "prompt", answer)
    assert run("init", "--encrypt").code == 0
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    ran = run("issue", "server")
    assert ran.code == 0
    assert asked == [("Password for the key", True), ("Password of certs/ca.key", True)]
    assert PASSWORD not in ran.out + ran.err
    assert b"ENCRYPTED" not in Path("certs/server.key").read_bytes()


@pytest.mark.parametrize(("content", "text"), [(b"", "is empty"), (b"\nx", "is empty"), (b"\xff\xfe", "as text")])
def test_a_password_file_without_a_password_is_told(run: Run, content: bytes, text: str) -> None:
    Path("secret").write_bytes(content)
    ran = run("init", "--password-file", "secret")
    assert ran.code == 78
    assert text in ran.err
    assert not Path("certs").exists()


def all_commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [(path, command), *(each for name, child in below for each in all_commands(child, (*path, name)))]


@pytest.mark.parametrize(("path", "command"), all_commands(certs))
def test_help_has_an_example_of_every_command(run: Run, path: tuple[str, ...], command: click.Command) -> None:
    ran = run(*path, "--help")
    assert ran.code == 0
    if not isinstance(command, click.Group):
        assert f"  eventbus certs {' '.join(path)}" in ran.out
        assert "--json" in ran.out


def test_no_option_takes_a_password_itself() -> None:
    options = [
        option for _, command in all_commands(certs) for parameter in command.params for option in parameter.opts
    ]
    assert {option for option in options if "password" in option} == {"--password-file", "--ca-password-file"}


def test_in_a_process_of_its_own_it_ends_with_the_same_code(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "eventbus", "certs", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )

    assert run("init").returncode == 0
    assert stat.S_IMODE((tmp_path / "certs/ca.key").stat().st_mode) == 0o600
    again = run("init")
    assert (again.returncode, again.stdout) == (78, "")
    assert "Traceback" not in again.stderr
    assert run("inspect", "certs/ca.pem", "--warn-days", "9999").returncode == 1


@pytest.mark.parametrize(
    "code",
    [
        "import eventbus_certs, eventbus_certs._cli",
        "from eventbus._cli.root import run_command; assert run_command(['--help']) == 0",
        "from eventbus._cli.root import run_command; assert run_command(['certs', 'issue', 'server', '--help']) == 0",
    ],
)
def test_help_does_without_cryptography(code: str) -> None:
    check = f"{code}\nimport sys\nassert 'cryptography' not in sys.modules\nassert 'rich' not in sys.modules"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(eventbus_certs, name).__doc__ for name in eventbus_certs.__all__)
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = eventbus_certs.missing
