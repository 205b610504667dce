"""What the commands have in common: options, passwords, and what they print of a new certificate."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from eventbus import ConfigurationError, Secret
from eventbus.cli import from_environment, print_json

if TYPE_CHECKING:
    from eventbus_certs import CertificateAuthority, CertificateInfo, Issued

F = TypeVar("F", bound=Callable[..., Any])

CA_PASSWORD = "EVENTBUS_CERTS_PASSWORD"  # noqa: S105  # the variable's name
KEY_PASSWORD = "EVENTBUS_CERTS_KEY_PASSWORD"  # noqa: S105


class Target(NamedTuple):
    """Where a new certificate goes, and how its key is kept."""

    folder: Path
    stem: str
    password: Secret | None
    overwrite: bool
    as_json: bool


def ca_option() -> Callable[[F], F]:
    """``--ca``: the authority's folder."""
    return click.option(
        "--ca",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("certs"),
        show_default="./certs",
        envvar="EVENTBUS_CERTS",
        show_envvar=True,
        help="Folder of the authority.",
    )


def ca_password_option() -> Callable[[F], F]:
    """``--ca-password-file``: for an encrypted ``ca.key``."""
    return click.option(
        "--ca-password-file",
        type=click.Path(dir_okay=False, exists=True, path_type=Path),
        help=f"File with the password of the authority's key; default: {CA_PASSWORD}, or a question at the terminal.",
    )


def password_option(variable: str) -> Callable[[F], F]:
    """``--password-file``: for the key of which the command is about."""
    return click.option(
        "--password-file",
        type=click.Path(dir_okay=False, exists=True, path_type=Path),
        help=f"File with the password of the key; default: {variable}. Without one it is not encrypted.",
    )


def encrypt_option() -> Callable[[F], F]:
    """``--encrypt``: ask for the password of a new key."""
    return click.option("--encrypt", is_flag=True, help="Ask for a password to encrypt the key with.")


def days_option(default: int | None, text: str) -> Callable[[F], F]:
    """``--days``: for how long a certificate is good."""
    days = click.FloatRange(0, 36500, min_open=True)
    return click.option("--days", type=days, default=default, show_default=default is not None, help=text)


def issue_options(days: int) -> Callable[[F], F]:
    """All options that ``issue server`` and ``issue client`` share."""
    options = [
        ca_option(),
        click.option(
            "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder; default: the authority's."
        ),
        days_option(days, "For how long it is good; the authority's end is the latest."),
        key_type_option(),
        click.option("--overwrite", is_flag=True, help="Replace files that are there."),
        password_option(KEY_PASSWORD),
        encrypt_option(),
        ca_password_option(),
    ]

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def key_type_option() -> Callable[[F], F]:
    """``--key-type``: ECDSA or RSA."""
    kinds = click.Choice(["ecdsa", "rsa"])
    return click.option("--key-type", type=kinds, default="ecdsa", show_default=True, help="ECDSA on P-256, or RSA.")


def password_of(file: Path | None, variable: str, *, ask: bool = False) -> Secret | None:
    """A password: of a file, else of a variable (or the file that it names), else asked for where ``ask``."""
    if file is not None:
        try:
            # The first line, as openssl reads such files.
            text = file.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the password file {file} cannot be read as text") from error
        if not text:
            raise ConfigurationError(f"the password file {file} is empty, or its first line is")
        return Secret(text)
    if known := from_environment(variable):
        return Secret(known)
    if ask:
        return Secret(click.prompt("Password for the key", hide_input=True, confirmation_prompt=True, err=True))
    return None


def unlock(key: Path, password: Secret | None, *, how: str) -> Secret | None:
    """The password for a key that exists: asked for, where the key needs one, none was given and somebody is there."""
    try:
        needed = password is None and b"ENCRYPTED" in key.read_bytes()
    except OSError:  # whoever uses the key finds the words for it
        return password
    if not needed:
        return password
    if not sys.stdin.isatty():
        raise ConfigurationError(f"the private key {key} is encrypted: {how}")
    return Secret(click.prompt(f"Password of {key}", hide_input=True, err=True))


def authority(folder: Path, password_file: Path | None) -> CertificateAuthority:
    """The authority of a folder."""
    from eventbus_certs import CertificateAuthority

    how = f"give --ca-password-file, or set {CA_PASSWORD}"
    password = unlock(folder / "ca.key", password_of(password_file, CA_PASSWORD), how=how)
    return CertificateAuthority.load(folder, password=password)


def save(issued: Issued, target: Target) -> None:
    """Write a new certificate with its key, and say so."""
    certificate, key = issued.save(target.folder, target.stem, password=target.password, overwrite=target.overwrite)
    say_made(certificate, key, as_json=target.as_json)


def say_made(certificate: Path, key: Path, *, as_json: bool) -> None:
    """Tell of a new certificate and its key."""
    import eventbus_certs

    info = eventbus_certs.inspect(certificate)[0]
    if as_json:
        print_json({"certificate": info, "key": str(key)})
        return
    names = f" for {', '.join(info.names)}" if info.names else ""
    click.echo(f"{certificate}: {info.subject}{names}, {key_text(info)}, until {info.not_after:%Y-%m-%d}")
    click.echo(f"{key}: its private key (mode {stat.S_IMODE(key.stat().st_mode):o})")


def key_text(info: CertificateInfo) -> str:
    """A key's type and size, for people."""
    return f"{info.key_type.upper()} {info.key_size}" if info.key_size else info.key_type
