"""Links, faults and the transport: what a bus sees of the in-memory broker."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from eventbus_memory import FaultPlan, ManualClock, MemoryTransport

from eventbus import ConfigurationError
from eventbus._errors import (
    BusClosed,
    ConnectionFailed,
    MessageTooLarge,
    NotSent,
    PublishUnknown,
    Rejected,
    TopologyMismatch,
    Unroutable,
)
from eventbus.transport import (
    Ack,
    Binding,
    ConsumerSpec,
    Exchange,
    Incoming,
    LinkSettings,
    LinkStatus,
    Message,
    Phase,
    Queue,
    RetryIn,
    Topology,
    Transport,
)

SETTINGS = LinkSettings(service="s", max_body=100)
SERVER_NAMED = Queue(name="", exclusive=True, auto_delete=True, durable=False)


class Listener:
    def __init__(self) -> None:
        self.arrived: list[Incoming] = []
        self.started_on: list[str] = []
        self.stopped_by: list[Exception | None] = []

    def delivered(self, incoming: Incoming, /) -> None:
        self.arrived.append(incoming)

    def started(self, queue: str, /) -> None:
        self.started_on.append(queue)

    def stopped(self, error: Exception | None, /) -> None:
        self.stopped_by.append(error)


class Bench:
    """A transport with one open sync link."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.faults = FaultPlan()
        self.transport = MemoryTransport(clock=self.clock, faults=self.faults)
        self.statuses: list[LinkStatus] = []
        self.link = self.transport.sync_link(SETTINGS, self.statuses.append)
        self.link.open()

    def consume(self, queue: Queue, name: str = "c", **options: Any) -> Listener:
        listener = Listener()
        self.link.consume(ConsumerSpec(name=name, queue=queue, **options), listener)
        return listener

    def publish(self, body: str = "x", *, topic: str = "q", seconds: float = 10.0, **options: Any) -> list[Any]:
        outcomes: list[Any] = []
        message = Message(**{"exchange": "", "topic": topic, "body": body.encode(), "id": body, "type": "t"} | options)
        self.link.publish(message, deadline=time.monotonic() + seconds, done=outcomes.append)
        return outcomes


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.link.close(1.0)


# -- the transport ------------------------------------------------------------------------------------------


def test_the_transport_fulfils_the_contract() -> None:
    assert isinstance(MemoryTransport(), Transport)


def test_urls_of_one_name_share_a_broker_and_others_do_not() -> None:
    one, same, other = (MemoryTransport.from_url(f"memory://{name}") for name in ("shop", "shop", "stock"))
    assert one.broker is same.broker
    assert one.broker is not other.broker
    assert MemoryTransport().broker is not MemoryTransport().broker


def test_a_named_broker_goes_with_its_last_transport() -> None:
    transport = MemoryTransport.from_url("memory://short-lived")
    transport.broker.declare(Queue(name="q"))
    del transport
    gc.collect()
    assert MemoryTransport.from_url("memory://short-lived").broker.queues() == []


def test_the_queue_type_is_chosen_by_the_url() -> None:
    transport = MemoryTransport.from_url("memory://chosen?queue_type=classic")
    transport.broker.declare(Queue(name="q"))
    assert transport.broker.queue("q").type == "classic"
    assert not transport.capabilities.counts_crashes


@pytest.mark.parametrize(
    "url", ["memory://x?speed=9", "memory://x/path", "memory://u:secret@x", "memory://x?queue_type=stream", "amqp://x"]
)
def test_what_a_url_does_not_know_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        MemoryTransport.from_url(url)
    assert "secret" not in str(raised.value)


def test_an_unknown_option_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"speed; known are: queue_type"):
        MemoryTransport.from_url("memory://x?speed=9")


# -- links --------------------------------------------------------------------------------------------------


def test_a_consumer_is_declared_bound_started_and_served(bench: Bench) -> None:
    topology = Topology(exchanges=(Exchange(name="e"),), bindings=(Binding(exchange="e", queue="", pattern="a.*"),))
    listener = bench.consume(SERVER_NAMED, topology=topology)
    bench.link.wait_ready(1.0)
    assert bench.publish(exchange="e", topic="a.b") == [None]
    assert listener.started_on[0].startswith("amq.gen-")
    assert [i.queue for i in listener.arrived] == listener.started_on


def test_publishing_needs_an_open_link() -> None:
    bench = Bench()
    bench.link.close(1.0)
    bench.link.close(1.0)
    assert [type(error) for error in bench.publish()] == [BusClosed]
    assert bench.link.status().phase is Phase.CLOSED


def test_bodies_are_bounded_in_both_directions(bench: Bench) -> None:
    listener = bench.consume(Queue(name="q"))
    assert [type(error) for error in bench.publish("x" * 101)] == [MessageTooLarge]
    bench.transport.broker.publish_raw(Message(exchange="", topic="q", body=b"x" * 101, id="1", type="t"))
    assert [i.problem is None for i in listener.arrived] == [False]


def test_a_consumer_that_cannot_be_is_reported_and_the_others_run(bench: Bench) -> None:
    bench.transport.broker.declare(Queue(name="other", max_length=1))
    refused = bench.consume(Queue(name="other"), "refused")
    fine = bench.consume(Queue(name="q"), "fine")
    bench.publish()
    assert len(fine.arrived) == 1
    assert isinstance(refused.stopped_by[0], TopologyMismatch)
    assert bench.link.status().consumers["refused"].phase is Phase.FAILED
    with pytest.raises(TopologyMismatch):
        bench.link.wait_ready(1.0)


def test_an_exclusive_queue_is_had_when_its_owner_has_gone(bench: Bench) -> None:
    owner = bench.transport.sync_link(SETTINGS, lambda status: None)
    owner.open()
    queue = Queue(name="mine", exclusive=True)
    owner.consume(ConsumerSpec(name="c", queue=queue), Listener())
    listener = bench.consume(queue)
    assert bench.link.status().consumers["c"].phase is Phase.WAITING
    owner.close(1.0)
    bench.clock.advance(1.0)
    bench.link.wait_ready(1.0)
    assert listener.started_on == ["mine"]


def test_closing_gives_back_what_is_unsettled(bench: Bench) -> None:
    other = bench.transport.sync_link(SETTINGS, lambda status: None)
    other.open()
    other.consume(ConsumerSpec(name="c", queue=Queue(name="q")), first := Listener())
    bench.publish()
    other.close(1.0)
    other.settle(first.arrived[0], Ack())
    assert other.status().stale_settlements == 1
    assert [(i.redelivered, i.attempt) for i in bench.consume(Queue(name="q")).arrived] == [(True, 2)]


def test_after_stop_consuming_nothing_comes_and_open_deliveries_can_be_settled(bench: Bench) -> None:
    listener = bench.consume(Queue(name="q"))
    bench.publish("a")
    bench.link.stop_consuming(1.0)
    bench.publish("b")
    bench.link.settle(listener.arrived[0], Ack())
    assert len(listener.arrived) == 1
    snapshot = bench.transport.broker.queue("q")
    assert (snapshot.ready, snapshot.unsettled, snapshot.consumers) == (1, 0, 0)


def test_a_deleted_queue_is_declared_again(bench: Bench) -> None:
    listener = bench.consume(Queue(name="q"))
    bench.transport.broker.delete_queue("q")
    assert isinstance(listener.stopped_by[0], ConnectionFailed)
    assert listener.started_on == ["q", "q"]
    assert bench.publish() == [None]
    assert len(listener.arrived) == 1


def test_direct_replies_come_to_the_one_who_asked_and_to_nobody_when_it_is_gone(bench: Bench) -> None:
    replies = bench.consume(Queue(name="amq.rabbitmq.reply-to"), "replies", direct_reply=True, auto_ack=True)
    requests = bench.consume(Queue(name="requests"), "requests")
    bench.publish(topic="requests", reply_to="amq.rabbitmq.reply-to")
    address = requests.arrived[0].message.reply_to
    assert address == replies.started_on[0]
    assert bench.publish("answer", topic=address) == [None]
    assert [i.message.body for i in replies.arrived] == [b"answer"]
    bench.link.stop_consuming(1.0)
    assert [type(error) for error in bench.publish(topic=address)] == [Unroutable]


def test_a_closed_link_leaves_no_thread_behind_though_a_retry_is_waiting() -> None:
    before = set(threading.enumerate())
    transport = MemoryTransport()
    link = transport.sync_link(SETTINGS, lambda status: None)
    link.open()
    link.consume(ConsumerSpec(name="c", queue=Queue(name="q")), listener := Listener())
    transport.broker.publish_raw(Message(exchange="", topic="q", body=b"", id="1", type="t"))
    link.settle(listener.arrived[0], RetryIn(delay=300.0))
    assert set(threading.enumerate()) != before
    link.close(1.0)
    assert set(threading.enumerate()) == before


def test_a_delayed_retry_comes_in_real_time_too() -> None:
    transport = MemoryTransport()
    link = transport.sync_link(SETTINGS, lambda status: None)
    link.open()
    again = threading.Event()

    class Twice(Listener):
        def delivered(self, incoming: Incoming, /) -> None:
            super().delivered(incoming)
            if incoming.attempt == 2:
                again.set()

    link.consume(ConsumerSpec(name="c", queue=Queue(name="q")), listener := Twice())
    transport.broker.publish_raw(Message(exchange="", topic="q", body=b"", id="1", type="t"))
    link.settle(listener.arrived[0], RetryIn(delay=0.02))
    assert again.wait(5.0)
    link.close(1.0)


# -- faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "error"), [("nack", Rejected), ("unroutable", Unroutable), ("refuse", NotSent)])
def test_a_scripted_refusal_happens_as_often_as_asked_to_topics_that_match(
    bench: Bench, kind: str, error: type[Exception]
) -> None:
    bench.consume(Queue(name="q"))
    fault = getattr(bench.faults, kind)(times=2, topic="q.#")
    assert [type(e) for _ in range(3) for e in bench.publish()] == [error, error, type(None)]
    assert (fault.fired, fault.spent) == (2, True)


@pytest.mark.parametrize("taken", [True, False])
def test_a_publish_that_is_never_confirmed_is_unknown_at_its_deadline(bench: Bench, taken: bool) -> None:
    listener = bench.consume(Queue(name="q"))
    bench.faults.never_confirm(taken=taken)
    outcomes = bench.publish(seconds=5.0)
    assert len(listener.arrived) == taken
    assert (outcomes, bench.link.status().unconfirmed) == ([], 1)
    bench.clock.advance(5.0)
    assert [type(error) for error in outcomes] == [PublishUnknown]


def test_closing_ends_publishes_that_are_not_confirmed(bench: Bench) -> None:
    bench.faults.never_confirm()
    outcomes = bench.publish()
    bench.link.close(1.0)
    assert [type(error) for error in outcomes] == [PublishUnknown]


def test_a_duplicate_is_marked_as_redelivered(bench: Bench) -> None:
    listener = bench.consume(Queue(name="q"))
    bench.faults.duplicate()
    assert bench.publish() == [None]
    assert [i.redelivered for i in listener.arrived] == [False, True]


def test_after_a_disconnect_everything_is_delivered_again_and_old_settlements_are_stale(bench: Bench) -> None:
    listener = bench.consume(Queue(name="q"))
    named = bench.consume(SERVER_NAMED, "named")
    bench.publish()
    bench.faults.disconnect()
    assert [i.redelivered for i in listener.arrived] == [False, True]
    assert isinstance(listener.stopped_by[0], ConnectionFailed)
    bench.link.settle(listener.arrived[0], Ack())
    bench.link.settle(listener.arrived[1], Ack())
    status = bench.link.status()
    assert (status.phase, status.reconnects, status.stale_settlements) == (Phase.READY, 1, 1)
    assert bench.transport.broker.queue("q").unsettled == 0
    assert len(set(named.started_on)) == 2
    assert Phase.WAITING in [s.phase for s in bench.statuses]


# -- on an event loop ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_async_listener_is_called_on_its_loop_in_order_whoever_publishes() -> None:
    transport = MemoryTransport()
    link = transport.async_link(SETTINGS, lambda status: None)
    loop_thread, threads = threading.get_ident(), set[int]()
    complete = asyncio.Event()

    class OnLoop(Listener):
        def delivered(self, incoming: Incoming, /) -> None:
            threads.add(threading.get_ident())
            super().delivered(incoming)
            link.settle(incoming, Ack())
            if len(self.arrived) == 200:
                complete.set()

    link.open()
    link.consume(ConsumerSpec(name="c", queue=Queue(name="q"), prefetch=7), listener := OnLoop())
    await link.wait_ready(1.0)

    def publish(first: int) -> None:
        for number in range(first, first + 100):
            transport.broker.publish_raw(Message(exchange="", topic="q", body=b"", id=str(number), type="t"))

    await asyncio.to_thread(publish, 0)
    publish(100)
    async with asyncio.timeout(10):
        await complete.wait()
    assert [i.message.id for i in listener.arrived] == [str(number) for number in range(200)]
    assert threads == {loop_thread}
    await link.close(1.0)


@pytest.mark.asyncio
async def test_an_async_listener_is_never_called_within_a_publish() -> None:
    transport = MemoryTransport()
    link = transport.async_link(SETTINGS, lambda status: None)
    link.open()
    link.consume(ConsumerSpec(name="c", queue=Queue(name="q")), listener := Listener())
    transport.broker.publish_raw(Message(exchange="", topic="q", body=b"", id="1", type="t"))
    assert listener.arrived == []
    await asyncio.sleep(0)
    assert len(listener.arrived) == 1
    await link.close(1.0)


def test_a_consumer_whose_loop_was_closed_gives_back_what_it_had() -> None:
    transport = MemoryTransport(clock=ManualClock())

    async def forget() -> None:
        link = transport.async_link(SETTINGS, lambda status: None)
        link.open()
        link.consume(ConsumerSpec(name="c", queue=Queue(name="q"), prefetch=1), Listener())
        transport.broker.publish_raw(Message(exchange="", topic="q", body=b"", id="1", type="t"))
        await asyncio.sleep(0)

    asyncio.run(forget())
    transport.broker.publish_raw(Message(exchange="", topic="q", body=b"", id="2", type="t"))
    snapshot = transport.broker.queue("q")
    assert (snapshot.ready, snapshot.unsettled, snapshot.consumers) == (2, 0, 0)
