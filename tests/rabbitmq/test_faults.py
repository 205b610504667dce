"""A broker in trouble: what the two buses do, and that they never hang."""

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pika.exceptions
import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import AsyncEventBus, EventBus, NotSent, PublishError, PublishUnknown, Queue, Rejected

EXCHANGE = "eventbus.events"


class SyncSide:
    """The sync bus, as it is."""

    def __init__(self, url: str, **options: Any) -> None:
        self.bus: Any = EventBus(url, **options)

    def do(self, name: str, *args: Any, **options: Any) -> Any:
        return getattr(self.bus, name)(*args, **options)

    def end(self) -> None:
        self.do("stop", 2)


class AsyncSide:
    """The async bus, on a loop of its own in a thread."""

    def __init__(self, url: str, **options: Any) -> None:
        self.bus: Any = AsyncEventBus(url, **options)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def do(self, name: str, *args: Any, **options: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(getattr(self.bus, name)(*args, **options), self.loop).result(90)

    def end(self) -> None:
        self.do("stop", 2)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(params=[SyncSide, AsyncSide], ids=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def build(url: str, **options: Any) -> Any:
        side = request.param(url, **options)
        made.append(side)
        return side

    yield build
    for side in made:
        side.end()


@pytest.fixture
def service() -> str:
    return f"faults-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def foreign(broker: LocalBroker) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    yield connection.channel()
    with contextlib.suppress(pika.exceptions.AMQPError):  # some tests here have the broker close it
        connection.close()


def eventually(check: Callable[[], Any], timeout: float = 20.0) -> bool:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if check():
            return True
        threading.Event().wait(0.02)
    return False


def publish_error(side: Any, **options: Any) -> PublishError:
    with pytest.raises(PublishError) as caught:
        side.do("publish", {"a": 1}, **options)
    return caught.value


def test_a_memory_alarm_blocks_publishing_alone_and_says_so(
    broker: LocalBroker, make: Callable[..., Any], service: str
) -> None:
    seen: list[Any] = []
    side = make(broker.url, service=service)
    side.bus.subscribe(pattern=f"{service}.x", name="x")(lambda event: seen.append(event))
    side.do("start")
    side.do("publish", {"n": 1}, topic=f"{service}.x")
    broker.ctl("set_vm_memory_high_watermark", "0")
    try:
        # RabbitMQ tells of the alarm when the connection publishes next.
        first = publish_error(side, topic=f"{service}.x", timeout=1.0)
        assert isinstance(first, (NotSent, PublishUnknown))
        assert eventually(lambda: side.bus.health().status == "blocked")
        began = time.monotonic()
        error = publish_error(side, topic=f"{service}.x", timeout=0.5)
        assert time.monotonic() - began < 1.5
        assert isinstance(error, NotSent)
        assert "memory" in str(error)
    finally:
        broker.ctl("set_vm_memory_high_watermark", "0.4")
    assert eventually(lambda: side.bus.health().status == "ready")
    side.do("publish", {"n": 2}, topic=f"{service}.x")
    assert eventually(lambda: {"n": 2} in seen)


def test_stopping_in_a_memory_alarm_is_bounded(broker: LocalBroker, make: Callable[..., Any], service: str) -> None:
    side = make(broker.url, service=service)
    side.bus.subscribe(pattern=f"{service}.x", name="x")(lambda event: None)
    side.do("start")
    side.do("publish", {}, topic=f"{service}.x")
    broker.ctl("set_vm_memory_high_watermark", "0")
    try:
        publish_error(side, topic=f"{service}.x", timeout=0.5)
        began = time.monotonic()
        side.do("stop", 1.0)
        assert time.monotonic() - began < 1.0 + 1.0 + 1.0  # grace, close, and a busy machine
    finally:
        broker.ctl("set_vm_memory_high_watermark", "0.4")


def test_a_frozen_broker_costs_the_deadline_and_stopping_is_bounded(make: Callable[..., Any], service: str) -> None:
    with LocalBroker() as own:
        side = make(own.url, service=service)
        side.bus.subscribe(pattern=f"{service}.x", name="x")(lambda event: None)
        side.do("start")
        side.do("publish", {}, topic=f"{service}.x")
        own.pause()
        try:
            began = time.monotonic()
            error = publish_error(side, topic=f"{service}.x", timeout=1.0)
            assert isinstance(error, PublishUnknown)
            assert time.monotonic() - began < 1.6
            began = time.monotonic()
            side.do("stop", 1.0)
            assert time.monotonic() - began < 1.0 + 1.0 + 1.0
        finally:
            own.resume()


def test_a_full_queue_rejects_and_says_so(broker: LocalBroker, make: Callable[..., Any], service: str) -> None:
    side = make(broker.url, service=service)
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    side.bus.subscribe(
        pattern=f"{service}.x",
        queue=Queue(name=service, type="classic", arguments=arguments),
        prefetch=1,
        settle="manual",
    )(lambda event: None)
    side.do("start")
    outcomes = []
    for number in range(4):
        try:
            side.do("publish", {"n": number}, topic=f"{service}.x", mandatory=True)
            outcomes.append("confirmed")
        except Rejected:
            outcomes.append("rejected")
    assert outcomes[0] == "confirmed"
    assert outcomes[-1] == "rejected"


def test_a_queue_deleted_under_its_consumer_is_declared_and_consumed_again(
    broker: LocalBroker, make: Callable[..., Any], service: str, foreign: Any
) -> None:
    seen: list[Any] = []
    side = make(broker.url, service=service)
    side.bus.subscribe(pattern=f"{service}.x", name="x")(lambda event: seen.append(event))
    side.do("start")
    foreign.queue_delete(f"{service}.x")

    def answered() -> bool:
        try:
            side.do("publish", {"n": 1}, topic=f"{service}.x", mandatory=True)
        except PublishError:
            return False
        return True

    assert eventually(answered)
    assert eventually(lambda: {"n": 1} in seen)
    assert side.bus.health().status == "ready"


def test_one_bad_queue_never_stops_the_others(
    broker: LocalBroker, make: Callable[..., Any], service: str, foreign: Any
) -> None:
    foreign.queue_declare(f"{service}.bad", durable=True, arguments={"x-max-length": 7})
    seen: list[Any] = []
    side = make(broker.url, service=service)
    side.bus.subscribe(pattern=f"{service}.bad", name="bad")(lambda event: None)
    side.bus.subscribe(pattern=f"{service}.good", name="good")(lambda event: seen.append(event))
    side.do("start", wait=False)
    assert eventually(lambda: side.bus.health().consumers.get(f"{service}.good") == "ready")
    assert eventually(lambda: side.bus.health().consumers.get(f"{service}.bad") == "failed")
    side.do("publish", {"n": 1}, topic=f"{service}.good", mandatory=True)
    assert eventually(lambda: seen == [{"n": 1}])
    health = side.bus.health()
    assert health.status == "degraded"
    assert f"{service}.bad" in health.errors[f"{service}.bad"]
    assert "inequivalent arg" in health.errors[f"{service}.bad"]  # the broker's words, which name the property
    broker.ctl("close_all_connections", "for the test")
    assert eventually(lambda: side.bus.health().reconnects >= 1)
    assert eventually(lambda: side.bus.health().consumers.get(f"{service}.good") == "ready")
    side.do("publish", {"n": 2}, topic=f"{service}.good", mandatory=True)
    assert eventually(lambda: {"n": 2} in seen)


def test_a_connection_closed_by_an_operator_cancels_no_handler_and_its_late_ack_is_dropped(
    broker: LocalBroker, make: Callable[..., Any], service: str
) -> None:
    begun, go = threading.Event(), threading.Event()
    attempts: list[int] = []
    finished: list[int] = []
    side = make(broker.url, service=service)

    @side.bus.subscribe(pattern=f"{service}.x", name="x", concurrency=2)
    def slow(event: dict[str, int], delivery: Any) -> None:
        attempts.append(delivery.attempt)
        begun.set()
        if len(attempts) == 1:
            go.wait(30)
        finished.append(delivery.attempt)

    side.do("start")
    side.do("publish", {"n": 1}, topic=f"{service}.x")
    assert begun.wait(10)
    broker.ctl("close_all_connections", "for the test")
    assert eventually(lambda: len(finished) == 1)  # handed out again, and handled
    go.set()
    assert eventually(lambda: len(finished) == 2)  # and the first one was not cancelled
    assert eventually(lambda: side.bus.health().settlements_dropped == 1)
    side.do("publish", {"n": 2}, topic=f"{service}.x")
    assert eventually(lambda: len(finished) == 3)
    assert "unknown delivery tag" not in broker.log_text()


def test_a_delivery_that_takes_too_long_for_the_broker_is_noticed_and_consuming_goes_on(
    make: Callable[..., Any], service: str
) -> None:
    with LocalBroker() as own:
        for setting in ("consumer_timeout, 1000", "channel_tick_interval, 500"):
            own.ctl("eval", f"application:set_env(rabbit, {setting}).")
        release = threading.Event()
        seen: list[int] = []
        side = make(own.url, service=service)

        @side.bus.subscribe(pattern=f"{service}.x", name="x", concurrency=2)
        def slow(event: dict[str, int]) -> None:
            seen.append(event["n"])
            if len(seen) == 1:
                release.wait(30)

        side.do("start")
        side.do("publish", {"n": 1}, topic=f"{service}.x")
        assert eventually(lambda: seen == [1, 1], 20)
        release.set()
        side.do("publish", {"n": 2}, topic=f"{service}.x")
        assert eventually(lambda: 2 in seen)


def test_a_hostile_header_table_never_stops_the_good_ones_behind_it(
    broker: LocalBroker, make: Callable[..., Any], service: str, foreign: Any
) -> None:
    seen: list[Any] = []
    side = make(broker.url, service=service)
    side.bus.subscribe(pattern=f"{service}.x", name="x")(lambda event: seen.append(event))
    side.do("start")
    nested: dict[str, Any] = {}
    for _ in range(40):
        nested = {"a": nested}
    foreign.basic_publish(EXCHANGE, f"{service}.x", b"{}", pika.BasicProperties(headers=nested))
    foreign.basic_publish(EXCHANGE, f"{service}.x", b"[" * 100_000)
    foreign.basic_publish(EXCHANGE, f"{service}.x", b'{"n": 1}')
    assert eventually(lambda: seen == [{"n": 1}])
    assert eventually(lambda: foreign.queue_declare(f"{service}.x.dead", passive=True).method.message_count == 2)


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 300_000, 5_000_000])
def test_bodies_of_any_size_make_the_round_trip(
    broker: LocalBroker, make: Callable[..., Any], service: str, size: int
) -> None:
    seen: list[Any] = []
    side = make(broker.url, service=service)
    side.bus.subscribe(pattern=f"{service}.x", name="x")(lambda event: seen.append(event))
    side.do("start")
    side.do("publish", {"text": "x" * size}, topic=f"{service}.x", mandatory=True)
    assert eventually(lambda: bool(seen))
    assert len(seen[0]["text"]) == size


def test_reconnecting_leaves_no_thread_behind(broker: LocalBroker, make: Callable[..., Any], service: str) -> None:
    side = make(broker.url, service=service)
    side.bus.subscribe(pattern=f"{service}.x", name="x")(lambda event: None)
    side.do("start")
    before = threading.active_count()
    for number in range(1, 6):
        broker.ctl("close_all_connections", "for the test")
        assert eventually(lambda n=number: side.bus.health().reconnects >= 2 * n)  # type: ignore[misc]
        assert eventually(lambda: side.bus.health().status == "ready")
    side.do("publish", {}, topic=f"{service}.x", mandatory=True)
    assert threading.active_count() <= before + 1
