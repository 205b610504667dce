"""Credentials that change: asked for at every connect, and given to the broker before they end."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import (
    AsyncEventBus,
    ConfigurationError,
    ConnectionFailed,
    Credentials,
    EventBus,
    Secret,
    event,
)
from eventbus.testing import eventually

LIFE = 5.0


@event("tokens.ticked")
@dataclass(frozen=True)
class Ticked:
    number: int


class Issuer:
    """Gives JSON web tokens that end soon, as an OAuth 2 server would."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.given: list[str] = []
        self.threads: set[str] = set()

    def public_pem(self) -> bytes:
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def credentials(self) -> Credentials:
        self.threads.add(threading.current_thread().name)
        ends = int(time.time() + LIFE)
        scope = [f"rabbitmq.{what}:*/*/*" for what in ("configure", "write", "read")]
        payload = {"sub": "service", "aud": ["rabbitmq"], "exp": ends, "scope": scope, "jti": len(self.given)}
        head = self._part({"alg": "RS256", "kid": "k1", "typ": "JWT"})
        signed = f"{head}.{self._part(payload)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        token = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
        self.given.append(token)
        return Credentials("service", Secret(token), expires=ends)

    @staticmethod
    def _part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def oauth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalBroker, Issuer]]:
    issuer = Issuer()
    key: Path = tmp_path_factory.mktemp("oauth") / "k1.pem"
    key.write_bytes(issuer.public_pem())
    config = {
        "auth_backends.1": "rabbit_auth_backend_oauth2",
        "auth_oauth2.resource_server_id": "rabbitmq",
        "auth_oauth2.default_key": "k1",
        "auth_oauth2.signing_keys.k1": str(key),
    }
    with LocalBroker(plugins=["rabbitmq_auth_backend_oauth2"], config=config) as broker:
        yield broker, issuer


def url(broker: LocalBroker) -> str:
    return f"amqp://127.0.0.1:{broker.port}/"


def test_a_token_is_renewed_on_the_open_connection(
    oauth: tuple[LocalBroker, Issuer], caplog: pytest.LogCaptureFixture
) -> None:
    broker, issuer = oauth
    everything(caplog)
    seen: list[int] = []
    with EventBus(url(broker), service="tokens", credentials=issuer.credentials) as bus:
        bus.subscribe(Ticked, broadcast=True)(lambda event: seen.append(event.number))
        bus.wait_ready()
        given, began = len(issuer.given), time.monotonic()
        number = 0
        while time.monotonic() - began < 2 * LIFE:
            number += 1
            bus.publish(Ticked(number), mandatory=True)
            threading.Event().wait(0.05)
        eventually(lambda: len(seen) == number, timeout=10)
        assert bus.health().reconnects == 0
        assert len(issuer.given) > given + 1
    nothing_shown(issuer, caplog)
    assert all(name.startswith("eventbus-credentials") for name in issuer.threads), "never on the I/O thread"


def everything(caplog: pytest.LogCaptureFixture) -> None:
    """Have all that anybody says, also those whom the command line has told to be quiet."""
    for name in (None, "eventbus", "pika", "aio_pika", "aiormq", "asyncio"):
        caplog.set_level(logging.DEBUG, name)


def nothing_shown(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """No token in any log, at any level, of anybody."""
    assert "DEBUG" in caplog.text
    assert not [token for token in issuer.given if token.partition(".")[2] in caplog.text]


def test_the_async_bus_renews_it_too(oauth: tuple[LocalBroker, Issuer], caplog: pytest.LogCaptureFixture) -> None:
    broker, issuer = oauth
    everything(caplog)

    async def run() -> None:
        async with AsyncEventBus(url(broker), service="tokens", credentials=issuer.credentials) as bus:
            given, began = len(issuer.given), time.monotonic()
            while time.monotonic() - began < 2 * LIFE:
                await bus.publish(Ticked(1))
                await asyncio.sleep(0.05)
            assert bus.health().reconnects == 0
            assert len(issuer.given) > given + 1

    asyncio.run(run())
    nothing_shown(issuer, caplog)


def test_new_credentials_that_are_refused_are_told_as_such(
    oauth: tuple[LocalBroker, Issuer], caplog: pytest.LogCaptureFixture
) -> None:
    broker, issuer = oauth
    asked: list[int] = []

    def credentials() -> Credentials:
        asked.append(1)
        good = issuer.credentials()
        broken = Secret(good.password.reveal()[:-8] + "AAAAAAAA")
        return good if len(asked) != 2 else Credentials("service", broken, expires=good.expires)

    with EventBus(url(broker), service="tokens", credentials=credentials) as bus:
        eventually(lambda: bus.health().reconnects == 1 and bus.health().status == "ready", timeout=20)
    assert "refused the new credentials of user 'service'" in caplog.text


def test_a_token_that_is_not_renewed_ends_and_the_next_connect_asks_again(oauth: tuple[LocalBroker, Issuer]) -> None:
    broker, issuer = oauth
    fail = threading.Event()

    def credentials() -> Credentials:
        if fail.is_set():
            raise RuntimeError("the token server is down: S3cr3t")
        return issuer.credentials()

    bus = EventBus(url(broker), service="tokens", credentials=credentials)
    bus.start()
    fail.set()
    broker.ctl("close_all_connections", "a test wants it")
    eventually(lambda: "RuntimeError" in (bus.health().error or ""), timeout=20)
    assert "S3cr3t" not in str(bus.health())
    fail.clear()
    eventually(lambda: bus.health().status == "ready", timeout=20)
    bus.stop(1)


def test_a_password_that_was_changed_is_found_at_the_next_connect(broker: LocalBroker) -> None:
    password = ["first"]
    broker.ctl("add_user", "rotating", "first")
    broker.ctl("set_permissions", "rotating", ".*", ".*", ".*")
    with EventBus(url(broker), service="s", credentials=lambda: Credentials("rotating", Secret(password[0]))) as bus:
        broker.ctl("change_password", "rotating", "second")
        password[0] = "second"
        broker.ctl("close_all_user_connections", "rotating", "a test wants it")
        eventually(lambda: bus.health().reconnects == 1 and bus.health().status == "ready", timeout=20)
        bus.publish(Ticked(1))


def test_a_function_that_hangs_does_not_hold_up_closing() -> None:
    forever = threading.Event()

    def credentials() -> Credentials:
        forever.wait(30)
        return Credentials()

    bus = EventBus("amqp://127.0.0.1:9/", service="s", credentials=credentials)
    began = time.monotonic()
    with pytest.raises(ConnectionFailed):
        bus.start(timeout=0.5)
    bus.stop(0.5)
    assert time.monotonic() - began < 4
    forever.set()


def test_what_does_not_fit_is_said_at_once() -> None:
    async def coroutine() -> Credentials:
        return Credentials()

    with pytest.raises(ConfigurationError, match="plain function"):
        EventBus("amqp://localhost", credentials=coroutine)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="said before"):
        EventBus("amqp://me:pw@localhost", credentials=Credentials())
    bus = EventBus("amqp://localhost", service="s", credentials=lambda: ("a", "b"))  # type: ignore[arg-type,return-value]
    with pytest.raises(ConnectionFailed, match="TypeError"):
        bus.start(timeout=0.5)
    bus.stop(0.5)
