"""A certificate that ends under a running bus, and certificates that functions give."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from eventbus_certs import CertificateAuthority
from eventbus_rabbitmq.local_broker import LocalBroker, LocalTLS

from eventbus import AsyncEventBus, CertificateError, EventBus, TLSConfig
from eventbus.testing import eventually


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalBroker, CertificateAuthority]]:
    at = tmp_path_factory.mktemp("expiry")
    authority = CertificateAuthority.create()
    authority.save(at)
    authority.issue_server(["localhost"]).save(at, "server")
    tls = LocalTLS(cafile=at / "ca.pem", certfile=at / "server.pem", keyfile=at / "server.key", verify_peer=True)
    with LocalBroker(tls=tls) as broker:
        yield broker, authority


@pytest.fixture
def folder(tmp_path: Path, site: tuple[LocalBroker, CertificateAuthority]) -> Path:
    site[1].save(tmp_path)
    site[1].issue_client("client").save(tmp_path, "client")
    return tmp_path


def url(broker: LocalBroker, folder: Path) -> str:
    files = {"cacertfile": "ca.pem", "certfile": "client.pem", "keyfile": "client.key"}
    return f"{broker.tls_url}?" + "&".join(f"{name}={quote(str(folder / file))}" for name, file in files.items())


def hurried(bus: EventBus | AsyncEventBus) -> None:
    bus.reload_tls()


def left_alone(bus: EventBus | AsyncEventBus) -> None:
    """It tries again by itself."""


def expire(site: tuple[LocalBroker, CertificateAuthority], folder: Path, connected: Callable[[], None]) -> None:
    """Have a certificate end after ``connected``, and the connections with it."""
    broker, authority = site
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
    authority.issue_client("client", not_after=ends).save(folder, "client", overwrite=True)
    connected()
    eventually(lambda: datetime.now(UTC) > ends + timedelta(seconds=1), timeout=10)
    broker.ctl("close_all_connections", "a test wants it")


@pytest.mark.parametrize("how", [left_alone, hurried])
def test_a_bus_whose_certificate_ended_comes_back_with_a_new_one(
    how: Callable[[EventBus], None], site: tuple[LocalBroker, CertificateAuthority], folder: Path
) -> None:
    bus = EventBus(url(site[0], folder), service="expiry")
    try:
        expire(site, folder, bus.start)
        eventually(lambda: "refused our certificate: it has expired" in (bus.health().error or ""), timeout=20)
        site[1].issue_client("client").save(folder, "client", overwrite=True)
        how(bus)
        eventually(lambda: bus.health().status == "ready", timeout=20)
        assert bus.health().certificate_days == 89
    finally:
        bus.stop(1)


@pytest.mark.parametrize("how", [left_alone, hurried])
def test_the_async_bus_comes_back_too(
    how: Callable[[AsyncEventBus], None], site: tuple[LocalBroker, CertificateAuthority], folder: Path
) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        bus = AsyncEventBus(url(site[0], folder), service="expiry")

        def connect() -> None:
            asyncio.run_coroutine_threadsafe(bus.start(), loop).result(20)

        try:
            await asyncio.to_thread(expire, site, folder, connect)
            async with asyncio.timeout(20):
                while "refused our certificate: it has expired" not in (bus.health().error or ""):
                    await asyncio.sleep(0.02)
            site[1].issue_client("client").save(folder, "client", overwrite=True)
            how(bus)
            async with asyncio.timeout(20):
                while bus.health().status != "ready":
                    await asyncio.sleep(0.02)
        finally:
            await bus.stop(1)

    asyncio.run(run())


class Vault:
    """Gives a key slowly, and notes in which threads it was asked."""

    def __init__(self, key: Path) -> None:
        self._key = key
        self.threads: list[str] = []
        self.open = threading.Event()

    def key(self) -> bytes:
        self.threads.append(threading.current_thread().name)
        if not self.open.wait(20):
            raise RuntimeError("S3cr3t")
        return self._key.read_bytes()

    def config(self, folder: Path) -> TLSConfig:
        return TLSConfig(ca=folder / "ca.pem", certificate=folder / "client.pem", key=self.key)


def test_a_slow_function_does_not_hold_up_the_loop(
    site: tuple[LocalBroker, CertificateAuthority], folder: Path
) -> None:
    vault = Vault(folder / "client.key")

    async def run() -> None:
        bus = AsyncEventBus(site[0].tls_url, service="expiry", tls=vault.config(folder))
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(bus.start(timeout=20))
            async with asyncio.timeout(10):
                while not vault.threads:
                    await asyncio.sleep(0.01)
            assert not starting.done()
            vault.open.set()
        assert bus.health().connected
        await bus.stop(1)

    asyncio.run(run())
    assert set(vault.threads) == {"eventbus-tls"}


def test_functions_are_not_called_on_the_thread_of_the_connections(
    site: tuple[LocalBroker, CertificateAuthority], folder: Path
) -> None:
    vault = Vault(folder / "client.key")
    vault.open.set()
    with EventBus(site[0].tls_url, service="expiry", tls=vault.config(folder)) as bus:
        assert bus.health().connected
    assert set(vault.threads) == {"eventbus-tls"}


def test_a_function_that_fails_is_told_without_its_text(
    site: tuple[LocalBroker, CertificateAuthority], folder: Path
) -> None:
    def broken() -> bytes:
        raise RuntimeError("S3cr3t")

    bus = EventBus(site[0].tls_url, service="expiry", tls=TLSConfig(certificate=folder / "client.pem", key=broken))
    with pytest.raises(CertificateError, match="key: its function raised RuntimeError"):
        bus.start(timeout=5)
    bus.stop(1)
