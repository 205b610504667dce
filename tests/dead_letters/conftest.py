"""Dead letters over both transports, looked at from threads and from a loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pika
import pytest
from eventbus_memory import MemoryTransport
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import EventBus, event
from eventbus._settlement import Retry
from eventbus.dead_letters import AsyncDeadLetters, DeadLetters
from eventbus.testing import eventually
from eventbus.testing._facade import AsyncRunner, Runner, SyncRunner
from eventbus.transport import Message, Transport

_numbers = itertools.count(1)


@event("letters.sent", topic="letters.sent.{country}")
@dataclass(frozen=True)
class Sent:
    number: int
    country: str = "se"


class SmtpError(Exception):
    """A failure of the tests."""


class Letters:
    """Either class, called as if it were the one for threads."""

    def __init__(self, runner: Runner, target: Any, **options: Any) -> None:
        self._runner = runner
        self.real = (DeadLetters if runner.flavour == "sync" else AsyncDeadLetters)(target, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.real, name)
        return lambda *args, **kwargs: self._runner.call(method, *args, **kwargs)


class Stage:
    """A transport, buses on it, and their dead letters. Names are of one test alone."""

    def __init__(self, runner: Runner, transport: Transport | str, broker: LocalBroker | None) -> None:
        self.runner = runner
        self.transport = transport
        self.broker = broker
        self.group = f"group{next(_numbers)}"
        self._buses: list[EventBus] = []

    def bus(self, service: str | None = None) -> EventBus:
        bus = EventBus(self.transport, service=service or self.group, retry=Retry(attempts=2, backoff=None))
        self._buses.append(bus)
        return bus

    def letters(self, target: Any = None, **options: Any) -> Letters:
        return Letters(self.runner, self.transport if target is None else target, **options)

    def queue(self, group: str | None = None) -> str:
        return f"{group or self.group}.letters.sent"

    def fill(
        self, count: int, error: Callable[[int], Exception] = lambda number: SmtpError(f"no {number}")
    ) -> EventBus:
        """A stopped bus whose group has given up so many events, in their order."""
        bus = self.bus()
        bus._retry = Retry(attempts=1)

        @bus.subscribe(Sent)
        def fail(sent: Sent) -> None:
            raise error(sent.number)

        bus.start()
        for number in range(count):
            bus.publish(Sent(number), headers={"number": number})
        letters = DeadLetters(bus)
        eventually(lambda: letters.list(limit=0).matched == count, 30, what=f"{count} dead letters")
        bus.stop(5)
        return bus

    def foreign(
        self,
        body: bytes,
        topic: str = "letters.sent.se",
        *,
        exchange: str = "eventbus.events",
        headers: Mapping[str, Any] | None = None,
        ttl: float | None = None,
        id: str | None = None,
    ) -> None:
        """Publish as another client would: only what is given."""
        if self.broker is None:
            message = Message(
                exchange=exchange, topic=topic, body=body, id=id or "", type="", headers=headers or {}, ttl=ttl
            )
            assert self.transport.broker.publish_raw(message) is None  # type: ignore[union-attr]
            return
        connection = pika.BlockingConnection(pika.URLParameters(self.broker.url))
        channel = connection.channel()
        channel.confirm_delivery()
        expiration = None if ttl is None else str(round(ttl * 1000))
        properties = pika.BasicProperties(headers=headers, expiration=expiration, message_id=id, delivery_mode=2)
        channel.basic_publish(exchange, topic, body, properties, mandatory=True)
        connection.close()

    def close(self) -> None:
        for bus in self._buses:
            bus.stop(5)


@pytest.fixture(params=["sync", "async"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    runner: Runner = SyncRunner() if request.param == "sync" else AsyncRunner()
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def broker() -> Iterator[LocalBroker]:
    with LocalBroker() as broker:
        yield broker


@pytest.fixture(params=["memory", "rabbitmq"])
def stage(request: pytest.FixtureRequest, runner: Runner) -> Iterator[Stage]:
    """On either transport."""
    if request.param == "memory":
        stage = Stage(runner, MemoryTransport(), None)
    else:
        broker = request.getfixturevalue("broker")
        stage = Stage(runner, broker.url, broker)
    yield stage
    stage.close()


@pytest.fixture
def rabbit(broker: LocalBroker, runner: Runner) -> Iterator[Stage]:
    """On RabbitMQ, with its broker."""
    stage = Stage(runner, broker.url, broker)
    yield stage
    stage.close()
