"""The same services over mutual TLS, from nothing: ``python -m examples.customers.secure``.

It makes a broker with a certificate authority of its own, a certificate and a user for each service with just the
permissions that the service's code needs, no guest, and the topology loaded at boot; runs the services over it; and
then shows who is refused, and with which words. Nothing of it is left afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from eventbus_certs import CertificateAuthority

from eventbus import AsyncEventBus, EventBus, EventBusError
from examples.customers.demo import in_processes, tell
from examples.customers.processes import ROOT, DemoFailed
from examples.customers.transcript import Transcript

SERVICES = ("users", "emails", "analytics", "pricing", "support")
VHOST = "customers"


class Broker:
    """The broker that ``eventbus broker up`` makes in a folder."""

    def __init__(self, folder: Path) -> None:
        self._state = str(folder)
        apps = [word for name in SERVICES for word in ("--app", f"examples.customers.buses:{name}")]
        made = json.loads(self.command("up", "--tls", "--vhost", VHOST, *apps, "--json"))
        self.folder = folder
        self._urls = {service["service"]: service["url"] for service in made["services"]}

    def command(self, name: str, *arguments: str) -> str:
        """Run ``eventbus broker NAME``."""
        words = [sys.executable, "-m", "eventbus", "broker", name, "--state", self._state, *arguments]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("EVENTBUS_U")}
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=180)
        if done.returncode != 0:
            raise DemoFailed(f"eventbus broker {name} failed:\n{done.stderr}")
        return done.stdout

    def url(self, service: str) -> str:
        """Where, and as whom, a service logs in: the certificate says who it is, so there is no password in it."""
        return str(self._urls[service])

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url("users"))
        return str(parts.hostname), int(parts.port or 0)


# -- who is refused -----------------------------------------------------------------------------------------


def refused(url: str) -> str:
    """What a service hears that connects with this URL; the sync and the async bus say the same.

    :raises DemoFailed: it was let in.
    """
    said = [_sync_error(url), asyncio.run(_async_error(url))]
    if said[0].partition(":")[0] != said[1].partition(":")[0]:
        raise DemoFailed(f"the buses differ: {said}")
    return said[0]


def _sync_error(url: str) -> str:
    bus = EventBus(url, service="stranger")
    try:
        bus.start(timeout=2.5)
    except EventBusError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        bus.stop(0.5)
    raise DemoFailed("a stranger was let in")


async def _async_error(url: str) -> str:
    bus = AsyncEventBus(url, service="stranger")
    try:
        await bus.start(timeout=2.5)
    except EventBusError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        await bus.stop(0.5)
    raise DemoFailed("a stranger was let in")


def strangers(broker: Broker, folder: Path) -> Iterator[tuple[str, str]]:
    """Each attempt, and what came of it."""
    host, port = broker.address
    real = broker.folder / "ca"
    ca = CertificateAuthority.load(real)
    other = CertificateAuthority.create("Somebody else's CA")
    other.save(folder / "other")
    other.issue_client("users").save(folder, "foreign")
    past = datetime.now(UTC) - timedelta(days=2)
    ca.issue_client("users", not_before=past, not_after=past + timedelta(days=1)).save(folder, "expired")
    ca.issue_client("nobody").save(folder, "nobody")

    def url(**options: Path | str) -> str:
        given = {"cacertfile": real / "ca.pem", "auth_mechanism": "external", **options}
        return f"amqps://{host}:{port}/{VHOST}?" + "&".join(f"{k}={quote(str(v))}" for k, v in given.items())

    def files(stem: str) -> dict[str, Path | str]:
        return {"certfile": folder / f"{stem}.pem", "keyfile": folder / f"{stem}.key"}

    own: dict[str, Path | str] = {
        "certfile": broker.folder / "services" / "users.pem",
        "keyfile": broker.folder / "services" / "users.key",
    }
    yield "without a certificate", refused(url())
    yield (
        "trusting another CA",
        refused(url(cacertfile=folder / "other" / "ca.pem", client_cafile=real / "ca.pem", **own)),
    )
    yield (
        "with a certificate of another CA",
        refused(url(client_cafile=folder / "other" / "ca.pem", **files("foreign"))),
    )
    yield "with an expired certificate", refused(url(**files("expired")))
    yield "with a certificate that is no user's", refused(url(**files("nobody")))
    yield "to another host name", refused(url(server_name_indication="bus.example.com", **own))
    yield "over TCP without TLS", refused(f"amqp://{host}:{port}/{VHOST}")
    with old_server() as number:
        yield "to a server of TLS 1.1", refused(url(**own).replace(f":{port}/", f":{number}/"))
    yield "as a client of TLS 1.1", _old_client(host, port)


def _old_context(side: int) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # today's OpenSSL speaks the old version only when it is told to
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def _old_client(host: str, port: int) -> str:
    try:
        with (
            socket.create_connection((host, port), timeout=5) as plain,
            _old_context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain),
        ):
            raise DemoFailed("a client of TLS 1.1 was let in")
    except ssl.SSLError as error:
        return f"the broker refuses it: {error.reason}"


@contextlib.contextmanager
def old_server() -> Iterator[int]:
    """Something that speaks TLS 1.1 and nothing newer; gives its port."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        CertificateAuthority.create("Old").issue_server(["localhost"]).save(folder, "old")
        context = _old_context(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/old.pem", f"{folder}/old.key")
        ended = threading.Event()
        thread = threading.Thread(target=_serve_old, args=(listener, context, ended), daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            ended.set()
            thread.join()


def _serve_old(listener: socket.socket, context: ssl.SSLContext, ended: threading.Event) -> None:
    listener.settimeout(0.1)
    while not ended.is_set():
        with contextlib.suppress(OSError):
            plain, _ = listener.accept()
            plain.settimeout(2)
            with plain, context.wrap_socket(plain, server_side=True):
                pass


# -- the command --------------------------------------------------------------------------------------------


def run(folder: Path, say: Callable[[str], Any] = print) -> None:
    """All of it, in a folder.

    :raises DemoFailed: something was not as it should be.
    """
    began = time.monotonic()
    broker = Broker(folder / "broker")
    try:
        users = broker.command("ctl", "--", "list_users")
        if "guest" in users:
            raise DemoFailed("the broker has a guest")
        say(f"The broker's users, none of them a guest:\n{users}")
        transcript = Transcript()
        in_processes(transcript, broker.url)
        tell(transcript, "over mutual TLS, each with the permissions of its code", time.monotonic() - began)
        if problems := transcript.problems():
            raise DemoFailed("\n".join(problems))
        say("\nWho is refused:")
        for title, error in strangers(broker, folder):
            say(f"   {title}\n      {error}")
    finally:
        broker.command("down", "--delete")
    say("\nEverything adds up.")


def main() -> int:
    """The command."""
    for name in ("eventbus", "aiormq", "pika"):  # what they log is shown as what callers hear
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with tempfile.TemporaryDirectory(prefix="eventbus-secure-") as folder:
        try:
            run(Path(folder))
        except DemoFailed as failed:
            print(f"it failed: {failed}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
