"""The obvious mistakes: each one line that says what is wrong and what to do, with no password in it."""

import asyncio
import logging
import socket
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import (
    AccessRefused,
    AsyncEventBus,
    ConfigurationError,
    ConnectionFailed,
    EventBus,
    EventBusError,
    Exchange,
    ExchangeMissing,
    LoginRefused,
    PublishError,
    Queue,
    TopologyMismatch,
    event,
)

SECRET = "S3cr3t-canary-77"


@event("mistakes.made", exchange=Exchange(name="mistakes.events"))
@dataclass(frozen=True)
class Made:
    number: int


def start_sync(url: str, queue: Queue | None = None, timeout: float = 15) -> None:
    bus = EventBus(url, service="mistakes")
    bus.subscribe(Made, queue=queue)(lambda event: None)
    try:
        bus.start(timeout=timeout)
    finally:
        bus.stop(2)


def start_async(url: str, queue: Queue | None = None, timeout: float = 15) -> None:
    async def run() -> None:
        bus = AsyncEventBus(url, service="mistakes")
        bus.subscribe(Made, queue=queue)(lambda event: None)
        try:
            await bus.start(timeout=timeout)
        finally:
            await bus.stop(2)

    asyncio.run(run())


both = pytest.mark.parametrize("start", [start_sync, start_async])


@pytest.fixture(autouse=True)
def _nothing_leaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield
    assert SECRET not in caplog.text


def told(error: BaseException) -> str:
    """The error's one line; the whole chain, with the local variables of every frame, must keep the secret."""
    text = str(error)
    assert "\n" not in text
    whole = "".join(traceback.TracebackException.from_exception(error).format())
    assert SECRET not in whole
    assert SECRET not in repr(error)
    return text


def at(broker: LocalBroker, *, user: str = "guest", password: str = "guest", vhost: str = "") -> str:
    return f"amqp://{user}:{password}@127.0.0.1:{broker.port}/{vhost}"


@both
def test_wrong_password(broker: LocalBroker, start: Callable[..., None]) -> None:
    with pytest.raises(LoginRefused) as caught:
        start(at(broker, password=SECRET))
    text = told(caught.value)
    assert "guest" in text
    assert "password" in text


@both
def test_wrong_virtual_host(broker: LocalBroker, start: Callable[..., None]) -> None:
    with pytest.raises(LoginRefused) as caught:
        start(at(broker, vhost="no-such-vhost"))
    assert "no-such-vhost" in told(caught.value)


@both
def test_unreachable_port(start: Callable[..., None]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ConnectionFailed) as caught:
            start(f"amqp://guest:{SECRET}@127.0.0.1:{port}/", timeout=1.0)
    text = told(caught.value)
    assert str(port) in text
    assert "RabbitMQ" in text


@both
def test_unknown_host_name(start: Callable[..., None]) -> None:
    with pytest.raises(ConnectionFailed) as caught:
        start(f"amqp://guest:{SECRET}@no-such-host.invalid/", timeout=2.0)
    assert "no-such-host.invalid" in told(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"amqp://guest:{SECRET}@localhost/?no_verify_ssl=1",
        f"amqp://guest:{SECRET}@localhost/?ssl_options=%7B%27protocol%27%3A+2%7D",
        f"amqps://guest:{SECRET}@localhost/?verify=verify_none",
        f"amqp://guest:{SECRET}@localhost:port/",
        f"amqp://guest:{SECRET}@localhost/?heartbeat=often",
        f"amqp://guest:{SECRET}@/",
        f"amqp://guest:{SECRET}@localhost/a/b",
    ],
)
def test_urls_that_are_refused_before_anything_is_connected(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        EventBus(url)
    told(caught.value)


@pytest.fixture
def limited(broker: LocalBroker) -> Iterator[str]:
    """A user who may configure and read, but write to nothing of ours."""
    broker.ctl("add_user", "limited", SECRET)
    broker.ctl("set_permissions", "limited", "^$", "^$", ".*")
    yield at(broker, user="limited", password=SECRET)
    broker.ctl("delete_user", "limited")


@both
def test_missing_permission_to_declare(limited: str, start: Callable[..., None]) -> None:
    with pytest.raises(AccessRefused) as caught:
        start(limited)
    text = told(caught.value)
    assert "mistakes" in text
    assert "permission" in text


def test_missing_permission_to_write(broker: LocalBroker, limited: str) -> None:
    with EventBus(at(broker), service="owner") as owner:
        owner.subscribe(Made, group="owner")(lambda event: None)
        owner.wait_ready()
        with EventBus(f"{limited}?declare=passive", service="limited") as bus, pytest.raises(PublishError) as caught:
            bus.publish(Made(1), timeout=5)
    text = told(caught.value)
    assert "mistakes.events" in text
    assert "permission" in text


@both
def test_mismatched_queue_arguments(broker: LocalBroker, start: Callable[..., None]) -> None:
    start(at(broker), Queue(name="mistakes.queue", type="classic"))
    with pytest.raises(TopologyMismatch) as caught:
        start(at(broker), Queue(name="mistakes.queue", type="classic", arguments={"x-max-length": 7}))
    text = told(caught.value)
    assert "mistakes.queue" in text


def test_mismatched_exchange_kind_names_the_exchange(broker: LocalBroker) -> None:
    with EventBus(at(broker), service="a") as bus:
        bus.publish({}, topic="x", exchange=Exchange(name="mistakes.kind", kind="topic"))
    with EventBus(at(broker), service="b") as bus, pytest.raises(EventBusError) as caught:
        bus.publish({}, topic="x", exchange=Exchange(name="mistakes.kind", kind="fanout"), timeout=5)
    assert "mistakes.kind" in told(caught.value)


def test_missing_exchange_leaves_the_others_alone(broker: LocalBroker) -> None:
    with EventBus(at(broker), service="mistakes") as bus:
        receipts = [bus.submit(Made(n)) for n in range(100)]
        bad = bus.submit({}, topic="x", exchange="mistakes.no-such-exchange")
        receipts += [bus.submit(Made(n)) for n in range(100)]
        error = bad.error()
        assert isinstance(error, ExchangeMissing)
        assert "mistakes.no-such-exchange" in told(error)
        assert [receipt.error() for receipt in receipts] == [None] * 200


def test_a_password_with_reserved_characters_works(broker: LocalBroker) -> None:
    broker.ctl("add_user", "odd", "p@ss/w:rd#1%")
    broker.ctl("set_permissions", "odd", ".*", ".*", ".*")
    try:
        url = at(broker, user="odd", password="p%40ss%2Fw%3Ard%231%25")
        assert urlsplit(url).hostname == "127.0.0.1"
        start_sync(url)
    finally:
        broker.ctl("delete_user", "odd")
