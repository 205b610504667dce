"""TLS on real sockets: what is refused and with which words, large bodies, and coming back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker, LocalTLS

from eventbus import AsyncEventBus, ConnectionFailed, EventBus, TLSNotVerified, event
from eventbus.testing import eventually
from tests.rabbitmq.certificates import Certificates

MIB = 1 << 20


@event("tls.blob")
@dataclass(frozen=True)
class Blob:
    text: str


def start_sync(url: str) -> None:
    bus = EventBus(url, service="tls")
    try:
        bus.start(timeout=6)
    finally:
        bus.stop(1)


def start_async(url: str) -> None:
    async def run() -> None:
        bus = AsyncEventBus(url, service="tls")
        try:
            await bus.start(timeout=6)
        finally:
            await bus.stop(1)

    asyncio.run(run())


Start = Callable[[str], None]
both = pytest.mark.parametrize("start", [start_sync, start_async])


def with_options(url: str, **files: Path | str) -> str:
    return f"{url}?" + "&".join(f"{name}={quote(str(file))}" for name, file in files.items())


@both
def test_the_right_authority_is_all_that_it_needs(
    start: Start, broker: LocalBroker, certificates: Certificates
) -> None:
    start(with_options(broker.tls_url, cacertfile=certificates.ca))


@both
def test_an_unknown_authority_is_refused_and_told_how_to_name_it(start: Start, broker: LocalBroker) -> None:
    with pytest.raises(TLSNotVerified, match=r"is not trusted .* with cacertfile"):
        start(broker.tls_url)


@both
def test_another_authority_is_refused(start: Start, broker: LocalBroker, tmp_path: Path) -> None:
    with pytest.raises(TLSNotVerified, match=r"is not trusted .* with cacertfile"):
        start(with_options(broker.tls_url, cacertfile=Certificates.made_in(tmp_path).ca))


@both
def test_a_certificate_for_another_name_is_refused(
    start: Start, broker: LocalBroker, certificates: Certificates
) -> None:
    with pytest.raises(TLSNotVerified, match=r"for another name .*elsewhere\.example"):
        start(with_options(broker.tls_url, cacertfile=certificates.ca, server_name_indication="elsewhere.example"))


@both
def test_tls_spoken_to_a_plain_port_is_told_apart_from_a_dead_one(
    start: Start, broker: LocalBroker, certificates: Certificates
) -> None:
    url = with_options(broker.url.replace("amqp://", "amqps://"), cacertfile=certificates.ca)
    with pytest.raises(TLSNotVerified, match=r"does not answer by TLS: is it the port for amqp://"):
        start(url)


@both
def test_plain_amqp_spoken_to_a_tls_port_says_that_it_may_be_one(start: Start, broker: LocalBroker) -> None:
    with pytest.raises(ConnectionFailed, match=r"a port without TLS\? \(amqps:// speaks TLS"):
        start(broker.tls_url.replace("amqps://", "amqp://"))


@pytest.fixture(scope="module")
def strict(certificates: Certificates) -> Iterator[LocalBroker]:
    """A broker that lets in nobody without a certificate."""
    certificate, key = certificates.issue("strict", "localhost", "127.0.0.1")
    tls = LocalTLS(cafile=certificates.ca, certfile=certificate, keyfile=key, verify_peer=True)
    with LocalBroker(tls=tls) as broker:
        yield broker


@pytest.fixture(scope="module")
def older(certificates: Certificates) -> Iterator[LocalBroker]:
    """One that speaks TLS 1.2 only."""
    certificate, key = certificates.issue("older", "localhost", "127.0.0.1")
    tls = LocalTLS(cafile=certificates.ca, certfile=certificate, keyfile=key, verify_peer=True)
    with LocalBroker(tls=tls, config={"ssl_options.versions.1": "tlsv1.2"}) as broker:
        yield broker


@both
def test_a_broker_that_wants_certificates_gets_one(
    start: Start, strict: LocalBroker, certificates: Certificates
) -> None:
    certificate, key = certificates.issue("client", "client.example")
    start(with_options(strict.tls_url, cacertfile=certificates.ca, certfile=certificate, keyfile=key))


@both
def test_without_a_certificate_it_says_what_the_broker_wants(
    start: Start, strict: LocalBroker, certificates: Certificates
) -> None:
    with pytest.raises(TLSNotVerified, match=r"without a client certificate: name ours with certfile"):
        start(with_options(strict.tls_url, cacertfile=certificates.ca))


@both
def test_a_certificate_of_another_authority_is_refused_by_the_broker(
    start: Start, strict: LocalBroker, certificates: Certificates, tmp_path: Path
) -> None:
    other = Certificates.made_in(tmp_path)
    certificate, key = other.issue("client", "client.example")
    files = {"certfile": certificate, "keyfile": key, "client_cafile": other.ca}
    with pytest.raises(TLSNotVerified, match=r"refused our certificate: it does not trust the CA"):
        start(with_options(strict.tls_url, cacertfile=certificates.ca, **files))


@both
def test_a_broker_of_tls_1_2_is_refused_where_1_3_is_wished(
    start: Start, older: LocalBroker, certificates: Certificates
) -> None:
    with pytest.raises(TLSNotVerified, match=r"speaks no version of TLS that we take"):
        start(with_options(older.tls_url, cacertfile=certificates.ca, tls_version="1.3"))


@both
def test_under_tls_1_2_a_missing_certificate_is_told_too(
    start: Start, older: LocalBroker, certificates: Certificates
) -> None:
    """Its alert says only that there is no agreement."""
    with pytest.raises(TLSNotVerified, match=r"it wants a client certificate"):
        start(with_options(older.tls_url, cacertfile=certificates.ca))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_sixty_four_mebibytes_go_there_and_back_with_threads(
    tls: bool, broker: LocalBroker, certificates: Certificates
) -> None:
    url = with_options(broker.tls_url, cacertfile=certificates.ca) if tls else broker.url
    arrived, texts = threading.Event(), []
    with EventBus(url, service="tls", max_body=65 * MIB, timeout=60) as bus:

        @bus.subscribe(Blob, broadcast=True)
        def keep(blob: Blob) -> None:
            texts.append(blob.text)
            arrived.set()

        bus.wait_ready()
        sent = "0123456789abcdef" * (4 * MIB)
        bus.publish(Blob(sent), mandatory=True)
        assert arrived.wait(60)
        assert texts == [sent]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_sixty_four_mebibytes_go_there_and_back_with_tasks(
    tls: bool, broker: LocalBroker, certificates: Certificates
) -> None:
    url = with_options(broker.tls_url, cacertfile=certificates.ca) if tls else broker.url

    async def run() -> None:
        arrived, texts = asyncio.Event(), []
        async with AsyncEventBus(url, service="tls", max_body=65 * MIB, timeout=60) as bus:

            @bus.subscribe(Blob, broadcast=True)
            async def keep(blob: Blob) -> None:
                texts.append(blob.text)
                arrived.set()

            await bus.wait_ready()
            sent = "0123456789abcdef" * (4 * MIB)
            await bus.publish(Blob(sent), mandatory=True)
            async with asyncio.timeout(60):
                await arrived.wait()
            assert texts == [sent]

    asyncio.run(run())


def test_it_comes_back_over_tls(broker: LocalBroker, certificates: Certificates) -> None:
    seen: list[str] = []
    with EventBus(with_options(broker.tls_url, cacertfile=certificates.ca), service="tls") as bus:
        bus.subscribe(Blob, broadcast=True)(lambda blob: seen.append(blob.text))
        bus.wait_ready()
        broker.ctl("close_all_connections", "a test wants it")
        eventually(lambda: bus.health().reconnects > 0 and bus.health().status == "ready", timeout=30)
        bus.publish(Blob("after"), mandatory=True)
        eventually(lambda: "after" in seen, timeout=10)
