"""``eventbus certs``: an authority in a folder, and what it issues."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eventbus.cli import FAILED, json_option, print_json, print_table

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    from eventbus import Secret
    from eventbus_certs import CertificateAuthority, CertificateInfo, Issued


@click.group()
def certs() -> None:
    """Make and look after TLS certificates of brokers and services."""


def _ca_option() -> Callable[[F], F]:
    return click.option(
        "--ca",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("certs"),
        show_default=True,
        envvar="EVENTBUS_CERTS",
        help="Folder of the authority.",
    )


def _password_option(name: str, what: str) -> Callable[[F], F]:
    return click.option(
        name,
        type=click.Path(dir_okay=False, exists=True, path_type=Path),
        help=f"File with the password of {what}; without it, the key is not encrypted.",
    )


_key_type = click.option(
    "--key-type", type=click.Choice(["ecdsa", "rsa"]), default="ecdsa", show_default=True, help="ECDSA P-256, or RSA."
)


@certs.command(
    epilog="\b\nExamples:\n  eventbus certs init\n  eventbus certs init /secure/ca --name 'Acme bus' --days 1825"
)
@click.argument(
    "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("certs"), envvar="EVENTBUS_CERTS"
)
@click.option("--name", default="eventbus CA", show_default=True, help="Its common name.")
@click.option("--days", type=click.FloatRange(0, min_open=True), default=3650, show_default=True)
@_key_type
@_password_option("--password-file", "its key")
@json_option()
def init(folder: Path, name: str, days: float, key_type: Any, password_file: Path | None, as_json: bool) -> None:
    """Make a certificate authority: ca.pem, which everybody trusts, and ca.key, which nobody else may have."""
    from eventbus_certs import CertificateAuthority

    CertificateAuthority.create(name, key_type=key_type, days=days).save(folder, password=_password(password_file))
    _made([folder / "ca.pem"], folder / "ca.key", as_json)


@certs.group()
def issue() -> None:
    """Issue a certificate for a broker or for a client."""


@issue.command(
    epilog="\b\nExamples:\n  eventbus certs issue server\n"
    "  eventbus certs issue server --san DNS:bus.example,IP:10.0.0.5 --out /etc/rabbitmq/tls"
)
@_ca_option()
@click.option(
    "--san", multiple=True, metavar="DNS:NAME,IP:ADDRESS", help="What clients call it; default: this machine."
)
@click.option("--name", default="server", show_default=True, help="Name of the files.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder; default: that of the authority.")
@click.option("--days", type=click.FloatRange(0, min_open=True), default=397, show_default=True)
@_key_type
@_password_option("--password-file", "the new key")
@_password_option("--ca-password-file", "the authority's key")
@json_option()
def server(
    ca: Path,
    san: tuple[str, ...],
    name: str,
    out: Path | None,
    days: float,
    key_type: Any,
    password_file: Path | None,
    ca_password_file: Path | None,
    as_json: bool,
) -> None:
    """Issue a certificate for a broker."""
    names = [part.strip() for text in san for part in text.split(",") if part.strip()]
    issued = _authority(ca, ca_password_file).issue_server(
        names or ["localhost", "127.0.0.1", "::1"], days=days, key_type=key_type
    )
    _save(issued, out or ca, name, password_file, as_json)


@issue.command(
    epilog="\b\nExamples:\n  eventbus certs issue client --cn billing\n"
    "  eventbus certs issue client --cn billing --days 30 --out /run/billing/tls"
)
@_ca_option()
@click.option("--cn", "user", required=True, help="The user that it logs in as (its common name).")
@click.option("--name", help="Name of the files; default: the user's.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder; default: that of the authority.")
@click.option("--days", type=click.FloatRange(0, min_open=True), default=90, show_default=True)
@_key_type
@_password_option("--password-file", "the new key")
@_password_option("--ca-password-file", "the authority's key")
@json_option()
def client(
    ca: Path,
    user: str,
    name: str | None,
    out: Path | None,
    days: float,
    key_type: Any,
    password_file: Path | None,
    ca_password_file: Path | None,
    as_json: bool,
) -> None:
    """Issue a certificate for a client: it logs in as the user of its common name."""
    issued = _authority(ca, ca_password_file).issue_client(user, days=days, key_type=key_type)
    _save(issued, out or ca, name or user.replace("/", "_"), password_file, as_json)


@certs.command(
    epilog="\b\nExamples:\n  eventbus certs renew certs/billing.pem\n"
    "  eventbus certs renew certs/*.pem --if-within 30     # from a timer, once a day"
)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_ca_option()
@click.option(
    "--if-within", type=click.IntRange(0), metavar="DAYS", help="Only those with no more days left than this."
)
@click.option("--days", type=click.FloatRange(0, min_open=True), help="Life of the new one; default: as the old one's.")
@click.option("--keep-key", is_flag=True, help="Sign the old key again.")
@_password_option("--password-file", "the key")
@_password_option("--ca-password-file", "the authority's key")
@json_option()
def renew(
    files: tuple[Path, ...],
    ca: Path,
    if_within: int | None,
    days: float | None,
    keep_key: bool,
    password_file: Path | None,
    ca_password_file: Path | None,
    as_json: bool,
) -> None:
    """Replace certificates by new ones of the same names, with new keys. Running services find them by themselves."""
    import eventbus_certs

    authority = _authority(ca, ca_password_file)
    done: list[dict[str, object]] = []
    for file in files:
        left = eventbus_certs.inspect(file)[0]
        if left.is_ca or (if_within is not None and left.days_left > if_within):
            done.append({"file": str(file), "renewed": False, "days_left": left.days_left})
            continue
        eventbus_certs.renew(file, authority, days=days, keep_key=keep_key, password=_password(password_file))
        now = eventbus_certs.inspect(file)[0]
        done.append({"file": str(file), "renewed": True, "days_left": now.days_left, "serial": now.serial})
    if as_json:
        print_json(done)
        return
    for each in done:
        what = "renewed" if each["renewed"] else "left as it is"
        click.echo(f"{each['file']}: {what}, {each['days_left']} days left")


@certs.command(
    epilog="\b\nExamples:\n  eventbus certs inspect certs/*.pem\n"
    "  eventbus certs inspect certs/billing.pem --warn-days 30 || mail -s 'renew it' ops@example.com"
)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--warn-days", type=click.IntRange(0), default=0, show_default=True, help="Exit with 1 if fewer are left."
)
@json_option()
def inspect(files: tuple[Path, ...], warn_days: int, as_json: bool) -> int:
    """Show what certificates say; exit code 1 when one has expired or soon will."""
    import eventbus_certs

    found = [info for file in files for info in eventbus_certs.inspect(file)]
    if as_json:
        print_json(found)
    else:
        columns = ["file", "subject", "for", "names", "days left", "key", "serial"]
        print_table(columns, [_row(info, warn_days) for info in found])
    return FAILED if any(info.days_left < warn_days for info in found) else 0


@certs.command(epilog="\b\nExample:\n  eventbus certs bundle old/ca.pem new/ca.pem --out trusted.pem")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@json_option()
def bundle(files: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Put several authorities into one file, so that both are trusted while one replaces the other."""
    import eventbus_certs

    count = eventbus_certs.bundle(files, out)
    if as_json:
        print_json({"file": str(out), "authorities": count})
    else:
        click.echo(f"{out}: {count} authorities")


def _authority(folder: Path, password_file: Path | None) -> CertificateAuthority:
    from eventbus_certs import CertificateAuthority

    return CertificateAuthority.load(folder, password=_password(password_file))


def _password(file: Path | None) -> Secret | None:
    from eventbus import ConfigurationError, Secret

    if file is None:
        return None
    text = file.read_text(encoding="utf-8").strip()
    if not text:
        raise ConfigurationError(f"the password file {file} is empty")
    return Secret(text)


def _save(issued: Issued, folder: Path, stem: str, password_file: Path | None, as_json: bool) -> None:
    issued.save(folder, stem, password=_password(password_file))
    _made([folder / f"{stem}.pem"], folder / f"{stem}.key", as_json)


def _made(certificates: list[Path], key: Path, as_json: bool) -> None:
    import eventbus_certs

    if as_json:
        print_json(
            {"key": str(key), "certificates": [i for file in certificates for i in eventbus_certs.inspect(file)]}
        )
        return
    for file in certificates:
        for info in eventbus_certs.inspect(file):
            names = f" for {', '.join(info.names)}" if info.names else ""
            click.echo(f"{file}: {info.subject}{names}, {info.key}, until {info.not_after:%Y-%m-%d}")
    click.echo(f"{key}: private key, for its owner only (mode {os.stat(key).st_mode & 0o777:o})")


def _row(info: CertificateInfo, warn_days: int) -> list[str]:
    from rich.markup import escape

    colour = "red" if info.days_left < 0 else "yellow" if info.days_left < max(warn_days, 30) else "green"
    what = "authority" if info.is_ca else ", ".join(info.usages) or "anything"
    return [
        escape(info.file),
        escape(info.subject),
        what,
        escape(", ".join(info.names)),
        f"[{colour}]{info.days_left}[/{colour}]",
        info.key,
        info.serial[:16],
    ]
