"""``eventbus certs``: an authority in a folder, and what it issues."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventbus import EventBusError
from eventbus.cli import CONFIG, DONE, FAILED, json_option, print_json, print_table
from eventbus_certs._cli_shared import (
    CA_PASSWORD,
    KEY_PASSWORD,
    Target,
    authority,
    ca_option,
    ca_password_option,
    days_option,
    encrypt_option,
    issue_options,
    key_text,
    key_type_option,
    password_of,
    password_option,
    save,
    say_made,
    unlock,
)

if TYPE_CHECKING:
    from eventbus_certs import CertificateAuthority, CertificateInfo

DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")


@click.group(
    epilog="\b\nExamples:\n  eventbus certs init\n  eventbus certs issue server --san DNS:bus.example,IP:10.0.0.5\n"
    "  eventbus certs issue client --cn billing\n  eventbus certs inspect certs/*.pem"
)
def certs() -> None:
    """Make and look after the TLS certificates of brokers and services.

    An authority is a folder with ca.pem, which everybody trusts, and ca.key, which nobody else may have.
    """


@certs.command(
    epilog="\b\nExamples:\n  eventbus certs init\n"
    "  eventbus certs init /secure/ca --name 'Acme bus' --days 1825 --encrypt"
)
@click.argument(
    "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("certs"), envvar="EVENTBUS_CERTS"
)
@click.option("--name", default="eventbus CA", show_default=True, help="Its common name.")
@days_option(3650, "For how long it is good; all certificates end with it.")
@key_type_option()
@password_option(CA_PASSWORD)
@encrypt_option()
@json_option()
def init(
    folder: Path, name: str, days: float, key_type: Any, password_file: Path | None, encrypt: bool, as_json: bool
) -> None:
    """Make an authority.

    FOLDER is EVENTBUS_CERTS by default, or ./certs.
    """
    from eventbus_certs import CertificateAuthority

    password = password_of(password_file, CA_PASSWORD, ask=encrypt)
    made = CertificateAuthority.create(name, key_type=key_type, days=days)
    certificate, key = made.save(folder, password=password)
    say_made(certificate, key, as_json=as_json)


@certs.group()
def issue() -> None:
    """Issue a certificate for a broker or for a client."""


def _names(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> list[str]:
    from eventbus_certs._names import alternative_names

    names = [part.strip() for text in value for part in text.split(",") if part.strip()]
    try:
        alternative_names(names)
    except EventBusError as error:
        raise click.BadParameter(str(error), ctx, parameter) from error
    return names or list(DEFAULT_NAMES)


@issue.command(
    epilog="\b\nExamples:\n  eventbus certs issue server\n"
    "  eventbus certs issue server bus1 --san DNS:bus1.example,IP:10.0.0.5 --out /etc/rabbitmq/tls\n"
    "  eventbus certs issue server --san bus.example --san '*.bus.example' --key-type rsa"
)
@click.argument("name", default="server")
@click.option(
    "--san",
    multiple=True,
    callback=_names,
    metavar="DNS:NAME,IP:ADDRESS",
    help=f"What clients call it, by name and by address; several times for several. Default: {','.join(DEFAULT_NAMES)}",
)
@issue_options(397)
@json_option()
def server(
    name: str,
    san: list[str],
    ca: Path,
    out: Path | None,
    days: float,
    key_type: Any,
    overwrite: bool,
    password_file: Path | None,
    encrypt: bool,
    ca_password_file: Path | None,
    as_json: bool,
) -> None:
    """Issue a certificate for a broker, in the files NAME.pem and NAME.key (default: server)."""
    signer = authority(ca, ca_password_file)
    password = password_of(password_file, KEY_PASSWORD, ask=encrypt)
    issued = signer.issue_server(san, days=days, key_type=key_type)
    save(issued, Target(out or ca, name, password, overwrite, as_json))


@issue.command(
    epilog="\b\nExamples:\n  eventbus certs issue client --cn billing\n"
    "  eventbus certs issue client --cn billing --days 30 --out /run/billing/tls\n\n"
    "RabbitMQ takes the user from the common name with ssl_cert_login_from = common_name, and wants the plugin "
    "rabbitmq_auth_mechanism_ssl."
)
@click.option("--cn", "user", required=True, metavar="USER", help="The user that it logs in as (its common name).")
@click.option("--name", help="Name of the files; default: the user's.")
@issue_options(90)
@json_option()
def client(
    user: str,
    name: str | None,
    ca: Path,
    out: Path | None,
    days: float,
    key_type: Any,
    overwrite: bool,
    password_file: Path | None,
    encrypt: bool,
    ca_password_file: Path | None,
    as_json: bool,
) -> None:
    """Issue a certificate for a client: it logs in as the user of its common name."""
    signer = authority(ca, ca_password_file)
    password = password_of(password_file, KEY_PASSWORD, ask=encrypt)
    issued = signer.issue_client(user, days=days, key_type=key_type)
    save(issued, Target(out or ca, name or user.replace("/", "_"), password, overwrite, as_json))


@certs.command(
    epilog="\b\nExamples:\n  eventbus certs renew certs/billing.pem\n"
    "  eventbus certs renew certs/*.pem --if-within 30     # from a timer, once a day"
)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@ca_option()
@click.option(
    "--if-within", type=click.IntRange(0), metavar="DAYS", help="Only those with so many days left, or fewer."
)
@days_option(None, "For how long the new one is good; default: as the old one.")
@click.option("--keep-key", is_flag=True, help="Sign the old key again.")
@password_option(KEY_PASSWORD)
@ca_password_option()
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
) -> int:
    """Replace certificates by new ones.

    Names stay, keys are new. A key is the file beside its certificate that ends in .key. Authorities among the files
    are left as they are. One that cannot be renewed does not stop the others; the exit code is 78 then.
    """
    signer = authority(ca, ca_password_file)
    password = password_of(password_file, KEY_PASSWORD)
    done: list[dict[str, Any]] = []
    for file in files:
        try:
            done.append(_renew_one(file, signer, if_within, days=days, keep_key=keep_key, password=password))
        except EventBusError as error:
            done.append({"file": str(file), "renewed": False, "error": str(error)})
            click.echo(f"error: {error}", err=True)
    if as_json:
        print_json(done)
    for each in done:
        if not as_json and "error" not in each:
            click.echo(f"{each['file']}: {each['what']}")
    return CONFIG if any("error" in each for each in done) else DONE


def _renew_one(
    file: Path, signer: CertificateAuthority, within: int | None, *, password: Any, **options: Any
) -> dict[str, Any]:
    import eventbus_certs

    info = eventbus_certs.inspect(file)[0]
    result = {"file": str(file), "renewed": False, "serial": info.serial, "days_left": info.days_left}
    if info.is_ca:
        return {**result, "what": "an authority, left as it is"}
    if within is not None and info.days_left > within:
        return {**result, "what": f"left as it is, {info.days_left} days left"}
    how = f"give --password-file, or set {KEY_PASSWORD}"
    password = unlock(file.with_suffix(".key"), password, how=how)
    eventbus_certs.renew(file, signer, password=password, **options)
    new = eventbus_certs.inspect(file)[0]
    what = f"renewed, {new.days_left} days left, serial {new.serial}"
    if new.not_after == signer.certificate.not_valid_after_utc:
        what += " (the authority itself ends then: time for a new one)"
    return {**result, "renewed": True, "serial": new.serial, "days_left": new.days_left, "what": what}


@certs.command(
    epilog="\b\nExamples:\n  eventbus certs inspect certs/*.pem\n"
    "  eventbus certs inspect certs/billing.pem --warn-days 30 || mail -s 'renew it' ops@example.com"
)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--warn-days", type=click.IntRange(0), default=0, help="Exit with 1 if fewer are left, too.")
@json_option()
def inspect(files: tuple[Path, ...], warn_days: int, as_json: bool) -> int:
    """Show what certificates say. The exit code is 1 when one has expired."""
    import eventbus_certs

    found = [info for file in files for info in eventbus_certs.inspect(file)]
    if as_json:
        print_json(found)
    else:
        columns = ["file", "subject", "signed by", "for", "names", "until", "days left", "key"]
        print_table(columns, [_row(info, max(warn_days, 30)) for info in found])
    return FAILED if any(info.days_left < warn_days for info in found) else DONE


def _row(info: CertificateInfo, warn_days: int) -> list[str]:
    from rich.markup import escape

    def shown(text: str) -> str:
        # A stranger's certificate must not speak to the terminal.
        return escape("".join(c if c.isprintable() else "?" for c in text))

    colour = "red" if info.days_left < 0 else "yellow" if info.days_left < warn_days else "green"
    days = "expired" if info.days_left < 0 else str(info.days_left)
    return [
        shown(info.file),
        shown(info.subject),
        "itself" if info.issuer == info.subject else shown(info.issuer),
        "authority" if info.is_ca else ", ".join(info.usages) or "anything",
        shown(", ".join(info.names)),
        f"{info.not_after:%Y-%m-%d %H:%M}",
        f"[{colour}]{days}[/{colour}]",
        key_text(info),
    ]


@certs.command(
    epilog="\b\nExample, the first of the two steps from an old authority to a new one:\n"
    "  eventbus certs bundle old/ca.pem new/ca.pem --out trusted.pem\n"
    "Have everybody trust trusted.pem; renew all certificates with --ca new; then have everybody trust new/ca.pem."
)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@json_option()
def bundle(files: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Put several authorities into one file. All are trusted then, while one replaces the other."""
    import eventbus_certs

    count = eventbus_certs.bundle(files, out)
    if as_json:
        print_json({"file": str(out), "authorities": count})
    else:
        click.echo(f"{out}: {count} {'authority' if count == 1 else 'authorities'}")
