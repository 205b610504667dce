"""Certificates replaced under a running producer and consumer: the new ones are used, and nothing confirmed is lost."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import eventbus_certs
import pytest
from eventbus_certs import CertificateAuthority
from eventbus_rabbitmq._contexts import Contexts
from eventbus_rabbitmq.local_broker import LocalBroker, LocalTLS

from eventbus import AsyncEventBus, CertificateError, EventBus, PublishError, TLSConfig, event
from eventbus.testing import eventually


@event("rotation.ticked")
@dataclass(frozen=True)
class Ticked:
    number: int


@dataclass(frozen=True)
class Site:
    """A broker that wants certificates, and the files of a client."""

    broker: LocalBroker
    authority: CertificateAuthority
    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "client.pem"

    @property
    def url(self) -> str:
        files = {
            "cacertfile": self.folder / "ca.pem",
            "certfile": self.certificate,
            "keyfile": self.folder / "client.key",
        }
        return f"{self.broker.tls_url}?" + "&".join(f"{name}={quote(str(file))}" for name, file in files.items())

    def in_use(self) -> set[str]:
        """The common names of the certificates that the broker sees."""
        lines = self.broker.ctl("list_connections", "peer_cert_subject").splitlines()[1:]
        return {line.strip() for line in lines if line.strip()}

    def issue(self, user: str) -> None:
        self.authority.issue_client(user).save(self.folder, "client", overwrite=True)


@pytest.fixture
def site(tmp_path: Path, shared: tuple[LocalBroker, CertificateAuthority]) -> Site:
    broker, authority = shared
    authority.save(tmp_path)
    made = Site(broker, authority, tmp_path)
    made.issue("first")
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalBroker, CertificateAuthority]]:
    at = tmp_path_factory.mktemp("rotation")
    authority = CertificateAuthority.create()
    authority.save(at)
    authority.issue_server(["localhost"]).save(at, "server")
    tls = LocalTLS(cafile=at / "ca.pem", certfile=at / "server.pem", keyfile=at / "server.key", verify_peer=True)
    with LocalBroker(tls=tls) as broker:
        yield broker, authority


def test_new_certificates_are_in_use_after_a_reload_and_nothing_confirmed_is_lost(site: Site) -> None:
    seen: list[int] = []
    confirmed: list[int] = []
    ended = threading.Event()
    with EventBus(site.url, service="rotation") as bus:
        bus.subscribe(Ticked)(lambda event: seen.append(event.number))
        bus.wait_ready()

        def produce() -> None:
            number = 0
            while not ended.is_set():
                number += 1
                try:
                    bus.publish(Ticked(number))
                    confirmed.append(number)
                except PublishError:
                    pass

        producer = threading.Thread(target=produce)
        producer.start()
        try:
            eventually(lambda: len(confirmed) > 50, timeout=20)
            assert site.in_use() == {"CN=first"}
            assert bus.health().certificate_days == 89
            site.issue("second")
            bus.reload_tls()
            eventually(lambda: site.in_use() == {"CN=second"}, timeout=20)
            after = len(confirmed) + 50
            eventually(lambda: len(confirmed) > after, timeout=20)
        finally:
            ended.set()
            producer.join()
        eventually(lambda: set(confirmed) <= set(seen), timeout=20)


def test_the_async_bus_does_the_same(site: Site) -> None:
    async def run() -> None:
        seen: list[int] = []
        confirmed: list[int] = []
        async with AsyncEventBus(site.url, service="rotation-async") as bus:

            @bus.subscribe(Ticked)
            async def see(event: Ticked) -> None:
                seen.append(event.number)

            await bus.wait_ready()
            ended = asyncio.Event()

            async def produce() -> None:
                number = 0
                while not ended.is_set():
                    number += 1
                    try:
                        await bus.publish(Ticked(number))
                        confirmed.append(number)
                    except PublishError:
                        pass

            async with asyncio.TaskGroup() as group:
                group.create_task(produce())
                try:
                    await until(lambda: len(confirmed) > 50)
                    site.issue("second")
                    bus.reload_tls()
                    # The broker lists a connection for a moment after its end.
                    await asyncio.to_thread(eventually, lambda: site.in_use() == {"CN=second"}, timeout=20)
                    after = len(confirmed) + 50
                    await until(lambda: len(confirmed) > after)
                finally:
                    ended.set()
            await until(lambda: set(confirmed) <= set(seen))

    asyncio.run(run())


async def until(condition: object, seconds: float = 20.0) -> None:
    """Like eventually, on a loop."""
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


def test_files_are_read_again_at_the_next_connection_without_being_asked(site: Site) -> None:
    with EventBus(site.url, service="rotation") as bus:
        assert site.in_use() == {"CN=first"}
        site.issue("second")
        site.broker.ctl("close_all_connections", "a test wants it")
        eventually(lambda: site.in_use() == {"CN=second"}, timeout=20)
        eventually(lambda: bus.health().status == "ready", timeout=20)


def test_files_that_cannot_be_used_change_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with EventBus(site.url, service="rotation") as bus:
        site.certificate.write_text("half a certificate")
        with pytest.raises(CertificateError, match=r"client\.pem"):
            bus.reload_tls()
        assert bus.health().status == "ready"
        with caplog.at_level(logging.ERROR, "eventbus.rabbitmq"):
            site.broker.ctl("close_all_connections", "a test wants it")
            eventually(lambda: bus.health().reconnects == 1 and bus.health().status == "ready", timeout=20)
        assert "the last good ones are" in caplog.text
        assert site.in_use() == {"CN=first"}


def test_renewed_files_keep_their_user_and_get_a_new_serial_number(site: Site) -> None:
    before = eventbus_certs.inspect(site.certificate)[0]
    with EventBus(site.url, service="rotation") as bus:
        eventbus_certs.renew(site.certificate, site.authority)
        bus.reload_tls()
        eventually(lambda: bus.health().reconnects == 1 and bus.health().status == "ready", timeout=20)
        assert site.in_use() == {"CN=first"}
    after = eventbus_certs.inspect(site.certificate)[0]
    assert (after.common_name, after.serial == before.serial) == ("first", False)


def test_a_long_connection_is_told_again_that_its_certificate_ends(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.authority.issue_client("short", days=5).save(site.folder, "client", overwrite=True)
    contexts = Contexts(
        TLSConfig(ca=site.folder / "ca.pem", certificate=site.certificate, key=site.folder / "client.key")
    )
    contexts.make()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "eventbus.rabbitmq"):
        contexts.warn()
    assert "ends in 4 days" in caplog.text


def test_a_config_object_says_what_no_url_can(site: Site) -> None:
    tls = TLSConfig(
        ca=(site.folder / "ca.pem").read_bytes(),
        certificate=site.certificate.read_bytes,
        key=(site.folder / "client.key").read_bytes,
        minimum_version="1.3",
    )
    with EventBus(site.broker.tls_url, service="rotation", tls=tls) as bus:
        assert bus.health().connected
