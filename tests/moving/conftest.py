"""Two brokers, a group with a queue at each, and what its handlers got."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from eventbus_memory import MemoryTransport
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import Delivery, EventBus, event
from eventbus._settlement import Retry
from eventbus.moving import AsyncMove, Move, MoveReport
from eventbus.testing import eventually
from eventbus.testing._facade import AsyncRunner, Runner, SyncRunner
from eventbus.transport import ConsumerSpec, Incoming, LinkSettings, Message, Queue, Topology, Transport

_numbers = itertools.count(1)


@event("parcels.sent", topic="parcels.sent.{country}")
@dataclass(frozen=True)
class Sent:
    number: int
    country: str = "se"


class Side:
    """One broker as a test sees it: buses on it, and its queues."""

    def __init__(self, target: Transport | str, group: str) -> None:
        self.target = target
        self.group = group
        self.got: list[Delivery] = []
        self._buses: list[EventBus] = []

    @property
    def queue(self) -> str:
        return f"{self.group}.parcels.sent"

    def bus(self, service: str = "publisher") -> EventBus:
        bus = EventBus(self.target, service=service)
        self._buses.append(bus)
        return bus

    def service(self, handle: Callable[[Sent, Delivery], None] | None = None, **options: Any) -> EventBus:
        """The group's bus, not started; it notes what it gets, unless it is told what to do."""
        bus = self.bus(self.group)
        options = {"retry": Retry(attempts=9, backoff=None), **options}

        @bus.subscribe(Sent, **options)
        def note(sent: Sent, delivery: Delivery) -> None:
            if handle is not None:
                handle(sent, delivery)
            self.got.append(delivery)

        return bus

    def prepare(self, **options: Any) -> EventBus:
        """The group's queue is there, and nobody consumes it."""
        bus = self.service(**options)
        bus.start()
        bus.stop(5)
        return bus

    def publish(self, numbers: range, *, country: str = "se", **options: Any) -> list[str]:
        """Confirmed events; gives their ids."""
        bus = self.bus()
        bus.start()
        receipts = [bus.submit(Sent(number, country), headers={"number": number}, **options) for number in numbers]
        for receipt in receipts:
            receipt.wait()
        bus.stop(5)
        return [receipt.message.id for receipt in receipts]

    def serve(self, count: int, **options: Any) -> list[Delivery]:
        """What the group's handlers get, once that is so many different messages."""
        bus = self.service(**options)
        bus.start()
        eventually(lambda: len({delivery.id for delivery in self.got}) >= count, 30, what=f"{count} messages")
        bus.stop(5)
        return self.got

    def raw(self, *messages: Message) -> None:
        """Publish as they stand, each confirmed."""
        with Look(self.target) as look:
            for message in messages:
                look.publish(message)

    def waiting(self, queue: str | None = None) -> int:
        """How many messages wait in a queue."""
        with Look(self.target) as look:
            return look.count(queue or self.queue)

    def look(self, count: int, queue: str | None = None) -> list[Incoming]:
        """So many messages as they lie in the queue; they go back, and count as handed out."""
        with Look(self.target) as look:
            return look.inside(queue or self.queue, count)

    def close(self) -> None:
        for bus in self._buses:
            bus.stop(5)


class Look:
    """A link of our own."""

    def __init__(self, target: Transport | str) -> None:
        transport = EventBus(target, service="look").transport if isinstance(target, str) else target
        self.link: Any = transport.sync_link(LinkSettings(service="look"), lambda status: None)

    def __enter__(self) -> Look:
        self.link.open()
        self.link.wait_ready(20)
        return self

    def __exit__(self, *error: object) -> None:
        self.link.close(5)

    def publish(self, message: Message) -> None:
        import time

        outcomes: list[Any] = []
        self.link.publish(message, deadline=time.monotonic() + 10, done=outcomes.append)
        eventually(lambda: outcomes, 15)
        assert outcomes == [None]

    def declare(self, queue: Queue) -> None:
        self.link.consume(ConsumerSpec(name=queue.name, queue=queue, topology=Topology(queues=(queue,))), Heard())
        self.link.wait_ready(20)
        self.link.release(queue.name)

    def count(self, queue: str) -> int:
        answers: list[Any] = []
        self.link.count_queue(queue, answers.append)
        eventually(lambda: answers, 15)
        if isinstance(answers[0], Exception):
            raise answers[0]
        return int(answers[0].ready)

    def inside(self, queue: str, count: int) -> list[Incoming]:
        heard = Heard()
        spec = ConsumerSpec(name="look", queue=Queue(name=queue), prefetch=count, inspect=True)
        self.link.consume(spec, heard)
        eventually(lambda: len(heard.got) >= count, 20)
        return heard.got


class Heard:
    """What a consumer of ours heard."""

    def __init__(self) -> None:
        self.got: list[Incoming] = []

    def delivered(self, incoming: Incoming, /) -> None:
        self.got.append(incoming)

    def started(self, queue: str, /) -> None:
        """Fine."""

    def stopped(self, error: Exception | None, /) -> None:
        """Fine."""


class Ends:
    """Source and destination, and moves between them."""

    def __init__(self, runner: Runner, source: Transport | str, destination: Transport | str) -> None:
        self.runner = runner
        self.group = f"group{next(_numbers)}"
        self.source, self.destination = Side(source, self.group), Side(destination, self.group)

    def prepare(self, **options: Any) -> None:
        self.source.prepare(**options)
        self.destination.prepare(**options)

    def moving(self, **options: Any) -> Move | AsyncMove:
        """A move of the group's queue, unless other queues are named."""
        if not {"queues", "group", "topology"} & set(options):
            options["queues"] = [self.source.queue]
        kind = Move if self.runner.flavour == "sync" else AsyncMove
        return kind(self.source.target, self.destination.target, **options)

    def run(self, moving: Move | AsyncMove, **options: Any) -> MoveReport:
        report = self.runner.call(moving.run, **options)
        assert isinstance(report, MoveReport)
        return report

    def move(self, *, how: dict[str, Any] | None = None, **options: Any) -> MoveReport:
        return self.run(self.moving(**(how or {})), **options)

    def close(self) -> None:
        self.source.close()
        self.destination.close()


@pytest.fixture(params=["sync", "async"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    runner: Runner = SyncRunner() if request.param == "sync" else AsyncRunner()
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def broker() -> Iterator[LocalBroker]:
    with LocalBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def rabbits(broker: LocalBroker) -> tuple[str, str]:
    """Two virtual hosts: brokers that know nothing of each other."""
    name = f"move-{uuid.uuid4().hex[:8]}"
    broker.ctl("add_vhost", name)
    broker.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    url = broker.url.rstrip("/")
    return broker.url, f"{url}/{quote(name)}"


WAYS = (
    "sync:memory-memory", "async:memory-memory", "sync:rabbitmq-rabbitmq", "async:rabbitmq-rabbitmq",
    "sync:sqlite-rabbitmq", "async:rabbitmq-sqlite",
)  # fmt: skip
"""How, from where and to where: not every way of all of them, as what differs is in the links alone."""


@pytest.fixture(params=WAYS)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """From one transport to another."""
    flavour, _, pair = request.param.partition(":")
    runner: Runner = SyncRunner() if flavour == "sync" else AsyncRunner()
    made = between(request, runner, *pair.split("-"))
    yield made
    made.close()
    runner.close()


@pytest.fixture
def memory(runner: Runner) -> Iterator[Ends]:
    """From memory to memory."""
    made = Ends(runner, MemoryTransport(), MemoryTransport())
    yield made
    made.close()


@pytest.fixture
def rabbit(runner: Runner, rabbits: tuple[str, str]) -> Iterator[Ends]:
    """From one RabbitMQ to another."""
    made = Ends(runner, *rabbits)
    yield made
    made.close()


def between(request: pytest.FixtureRequest, runner: Runner, source: str, destination: str) -> Ends:
    """Ends of these kinds."""

    def side(kind: str, number: int) -> Transport | str:
        if kind == "memory":
            return MemoryTransport()
        if kind == "sqlite":
            folder = request.getfixturevalue("tmp_path")
            return f"sqlite:///{folder}/bus-{number}.db"
        return str(request.getfixturevalue("rabbits")[number])

    return Ends(runner, side(source, 0), side(destination, 1))
