"""Buses with a spool, while a broker in memory comes and goes."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eventbus_memory import FaultPlan, MemoryTransport

from eventbus import (
    ConfigurationError,
    ConnectionFailed,
    Delivery,
    EncodingError,
    MessageTooLarge,
    NotSent,
    PublishError,
    Request,
    Spool,
    SpoolHealth,
    Unroutable,
    event,
)
from eventbus._spool import _drain
from eventbus.dead_letters import DeadLetters
from eventbus.testing import eventually
from eventbus.testing._facade import Bus
from tests.spool.conftest import Garage
from tests.spool.places import FlakyTransport

QUICK = 2.0
"""Seconds within which a bus does what it does at once, on a busy machine; its timeout is 5."""


@event("shop.placed", key="{number}")
@dataclass(frozen=True)
class Placed:
    number: int


@dataclass(frozen=True)
class Ask(Request[int]):
    number: int = 0


class Shop:
    """A broker that can be away, a store, and a group that has its own bus and collects what comes."""

    def __init__(
        self, garage: Garage, *, away: bool = False, broker: FlakyTransport | None = None, **spool: Any
    ) -> None:
        self.garage = garage
        self.broker = broker or FlakyTransport()
        self.store = MemoryTransport()
        self.spool = Spool(self.store, volatile=True, **spool)
        self.got: list[Delivery] = []
        listener = garage.bus(self.broker, service="mails")
        listener.real.subscribe(Placed)(self._collecting())
        listener.start()
        if away:
            self.broker.leave()

    def _collecting(self) -> Any:
        if self.garage.runner.flavour == "async":

            async def collect(placed: Placed, delivery: Delivery) -> None:
                self.got.append(delivery)

            return collect

        def collect_now(placed: Placed, delivery: Delivery) -> None:
            self.got.append(delivery)

        return collect_now

    def bus(self, **options: Any) -> Bus:
        return self.garage.bus(self.broker, spool=self.spool, **options)

    def numbers(self) -> list[int]:
        """What has come, in the order of the first arrivals."""
        seen = dict.fromkeys(delivery.message.id for delivery in self.got)
        found = {d.message.id: int(d.message.body.split(b":")[1].rstrip(b"}")) for d in self.got}
        return [found[id] for id in seen]

    def wait(self, count: int) -> list[int]:
        eventually(lambda: len(self.numbers()) >= count, 20, what=f"{count} events")
        return self.numbers()

    def kept(self) -> list[Any]:
        return [m for m in self.store.broker.messages("shop.spool") if m.type == "shop.placed"]


def state(bus: Bus) -> SpoolHealth:
    found = bus.health().spool
    assert found is not None
    return found


def test_a_connected_bus_keeps_nothing(garage: Garage) -> None:
    shop = Shop(garage)
    bus = shop.bus().start()
    bus.publish_many(Placed(number) for number in range(100))
    assert shop.wait(100) == list(range(100))
    assert state(bus) == SpoolHealth(state="idle")
    assert shop.store.broker.queue("shop.spool").ready == 0


def test_what_is_published_while_the_broker_is_away_is_confirmed_at_once_and_comes_in_order(garage: Garage) -> None:
    shop = Shop(garage)
    bus = shop.bus().start()
    bus.publish(Placed(0))
    eventually(lambda: shop.got and not shop.broker.broker.queue("mails.shop.placed").unsettled)
    shop.broker.leave()
    began = time.monotonic()
    for number in range(1, 50):
        bus.publish(Placed(number))
    assert bus.publish_many(Placed(number) for number in range(50, 300)) == 250
    assert time.monotonic() - began < QUICK
    told = state(bus)
    assert (told.state, told.messages, told.kept, told.sent) == ("keeping", 299, 299, 0)
    assert told.oldest is not None
    assert 0 <= told.oldest < 60
    shop.broker.come_back()
    assert shop.wait(300) == list(range(300))
    eventually(lambda: state(bus).state == "idle", 20)
    assert len(shop.got) == 300, "no outcome was unknown, so nothing came twice"
    assert (state(bus).messages, state(bus).sent, state(bus).oldest) == (0, 299, None)
    bus.publish(Placed(300))
    assert shop.wait(301)[-1] == 300
    assert state(bus).kept == 299


def test_a_bus_publishes_before_there_has_ever_been_a_broker(garage: Garage) -> None:
    shop = Shop(garage, away=True)
    bus = shop.bus()
    began = time.monotonic()
    bus.publish(Placed(1))
    assert time.monotonic() - began < QUICK
    with pytest.raises(ConnectionFailed):
        bus.start(timeout=0.1)
    shop.broker.come_back()
    assert shop.wait(1) == [1]


def test_what_a_stopped_bus_has_left_is_sent_by_the_next_one_before_its_own(garage: Garage) -> None:
    shop = Shop(garage, away=True)
    first = shop.bus()
    for number in range(30):
        first.publish(Placed(number))
    began = time.monotonic()
    assert first.stop(30.0).clean
    assert time.monotonic() - began < 5, "it does not wait for a broker that is away"
    assert len(shop.kept()) == 30
    shop.broker.come_back()
    second = shop.bus()
    for number in range(30, 60):
        second.publish(Placed(number))
    assert shop.wait(60) == list(range(60))
    assert len(shop.got) == 60


def test_events_keep_what_they_are(garage: Garage) -> None:
    shop = Shop(garage, away=True)
    bus = shop.bus()
    message = bus.real.message(Placed(1), headers={"a": 1, "b": [b"x", None]}, priority=4, ttl=60.0)
    bus.publish(message)
    shop.broker.come_back()
    shop.wait(1)
    [delivery] = shop.got
    got = delivery.message
    assert (got.id, got.time, got.type, got.source) == (message.id, message.time, message.type, message.source)
    assert dict(got.headers) == dict(message.headers)
    assert (got.exchange, got.topic, got.priority, got.persistent) == (message.exchange, message.topic, 4, True)
    assert got.ttl is not None
    assert 0 < got.ttl <= 60


def test_delayed_events_come_when_they_are_due(garage: Garage) -> None:
    shop = Shop(garage, away=True)
    bus = shop.bus()
    bus.publish(Placed(1), delay=1.5)
    due = time.time() + 1.4
    bus.publish(Placed(2))
    shop.broker.come_back()
    assert shop.wait(2) == [2, 1]
    assert time.time() >= due


def test_requests_do_not_wait_in_the_spool(garage: Garage) -> None:
    shop = Shop(garage, away=True)
    bus = shop.bus(timeout=0.3)
    with pytest.raises(NotSent):
        bus.request(Ask(1))
    assert state(bus).kept == 0


@pytest.mark.parametrize("away", [False, True])
def test_what_is_wrong_with_the_event_is_its_callers_business(garage: Garage, away: bool) -> None:
    shop = Shop(garage, away=away)
    bus = shop.bus(max_body=1000)
    with pytest.raises(MessageTooLarge):
        bus.publish({"x": "x" * 2000}, topic="t")
    with pytest.raises(EncodingError):
        bus.publish({"x": object()}, topic="t")
    assert state(bus).kept == 0


def test_a_connected_bus_tells_of_events_without_a_queue_as_before(garage: Garage) -> None:
    shop = Shop(garage)
    bus = shop.bus().start()
    with pytest.raises(Unroutable):
        bus.publish({"x": 1}, topic="nobody", mandatory=True)
    bus.publish({"x": 1}, topic="nobody")
    assert bus.health().unroutable == 1


def test_events_from_the_spool_that_nobody_hears_are_counted_and_mandatory_ones_set_aside(
    garage: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(garage, away=True)
    bus = shop.bus()
    for _ in range(3):
        bus.publish({"x": 1}, topic="nobody")
    bus.publish({"x": 1}, topic="somebody", mandatory=True)
    bus.publish(Placed(1))
    shop.broker.come_back()
    assert shop.wait(1) == [1]
    eventually(lambda: state(bus).state == "idle", 20)
    assert bus.health().unroutable == 3
    assert sum("nobody is subscribed" in record.message for record in caplog.records) == 1
    [dead] = shop.store.broker.messages("shop.spool.dead")
    assert dead.headers["eventbus-dead-error-type"] == "Unroutable"
    assert state(bus).dead_lettered == 1
    assert any(r.levelno == logging.ERROR and "goes to its dead letters" in r.message for r in caplog.records)


def test_what_the_broker_refuses_is_tried_for_a_while_and_then_set_aside(
    garage: Garage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_drain, "REFUSED_SECONDS", 0.02)
    shop = Shop(garage, away=True)
    bus = shop.bus()
    bus.publish(Placed(1))
    bus.publish({"x": 1}, topic="refused")
    bus.publish(Placed(2))
    passing = shop.broker.faults.nack(topic="shop.placed", times=3)
    shop.broker.come_back()
    assert sorted(shop.wait(2)) == [1, 2], "it was refused for a while only"
    assert passing.fired == 3
    shop.broker.leave()
    refusal = shop.broker.faults.nack(topic="refused", times=None)
    bus.publish({"x": 2}, topic="refused")
    monkeypatch.setattr(_drain, "PATIENCE", 0.1)
    shop.broker.come_back()
    eventually(lambda: state(bus).dead_lettered == 1, 20)
    assert refusal.fired > 1
    [dead] = shop.store.broker.messages("shop.spool.dead")
    assert (dead.body, dead.headers["eventbus-dead-error-type"]) == (b'{"x":2}', "Rejected")


def test_a_full_spool_says_so(garage: Garage) -> None:
    shop = Shop(garage, away=True, max_messages=3)
    bus = shop.bus()
    for number in range(3):
        bus.publish(Placed(number))
    with pytest.raises(NotSent, match=r"the spool did not keep the event: it is full: 3 events \(max_messages=3\)"):
        bus.publish(Placed(3))
    assert "it is full" in (state(bus).error or "")
    shop.broker.come_back()
    assert shop.wait(3) == [0, 1, 2]
    eventually(lambda: state(bus).state == "idle", 20)
    bus.publish(Placed(4))
    assert shop.wait(4) == [0, 1, 2, 4]


def test_another_bus_knows_how_full_it_is(garage: Garage) -> None:
    shop = Shop(garage, away=True, max_messages=3)
    first = shop.bus()
    for number in range(3):
        first.publish(Placed(number))
    first.stop()
    second = shop.bus()
    second.start(wait=False)
    eventually(lambda: state(second).messages == 3)
    with pytest.raises(NotSent, match="it is full"):
        second.publish(Placed(3))


def test_what_is_too_old_is_dropped_while_the_broker_is_away(garage: Garage, caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop(garage, away=True, max_age=0.3)
    bus = shop.bus()
    for number in range(5):
        bus.publish(Placed(number))
    eventually(lambda: state(bus).expired == 5, 20)
    assert state(bus).messages == 0
    assert sum("too old, and was dropped" in record.message for record in caplog.records) == 5
    shop.broker.come_back()
    eventually(lambda: state(bus).state == "idle", 20)
    bus.publish(Placed(9))
    assert shop.wait(1) == [9]


def test_an_event_whose_time_to_live_is_over_is_not_sent(garage: Garage) -> None:
    shop = Shop(garage, away=True)
    bus = shop.bus()
    bus.publish(Placed(1), ttl=0.05)
    bus.publish(Placed(2))
    due = time.time() + 0.1
    eventually(lambda: time.time() > due)
    shop.broker.come_back()
    assert shop.wait(1) == [2]
    eventually(lambda: state(bus).expired == 1)


class Broken(MemoryTransport):
    """A store that takes nothing."""

    def __init__(self) -> None:
        super().__init__(faults=FaultPlan())
        self.faults.refuse(topic="shop.spool", times=None)


def test_a_store_that_fails_is_named_and_seen_in_health(garage: Garage) -> None:
    shop = Shop(garage, away=True)
    bus = garage.bus(shop.broker, spool=Spool(Broken(), volatile=True))
    with pytest.raises(NotSent, match="the spool did not keep the event: a scripted fault"):
        bus.publish(Placed(1))
    assert "scripted fault" in (state(bus).error or "")


def test_what_the_store_does_not_take_goes_to_the_broker_if_that_is_there_again(garage: Garage) -> None:
    shop = Shop(garage, away=True)
    store = MemoryTransport()
    refusal = store.faults.refuse(topic="shop.spool", times=2)
    bus = garage.bus(shop.broker, spool=Spool(store, volatile=True))
    bus.start(wait=False)
    eventually(lambda: refusal.fired == 2, 20)  # its first markers
    shop.broker.come_back()
    eventually(lambda: state(bus).state == "idle", 20)
    bus.publish(Placed(1))
    assert shop.wait(1) == [1]
    assert state(bus).kept == 0


def test_an_unknown_outcome_is_sent_again_with_the_same_id(garage: Garage) -> None:
    shop = Shop(garage)
    bus = shop.bus(timeout=1.0).start()
    silence = shop.broker.faults.never_confirm(topic="shop.placed")
    bus.publish(Placed(1))  # confirmed by the spool, in time
    assert silence.fired == 1
    bus.publish(Placed(2))
    assert shop.wait(2) == [1, 2]
    eventually(lambda: len(shop.got) == 3, 20, what="the first one again")
    assert [d.message.id for d in shop.got].count(shop.got[0].message.id) == 2


def test_two_buses_share_one_spool(garage: Garage) -> None:
    shop = Shop(garage, away=True)
    first, second = shop.bus(), shop.bus()
    for number in range(0, 40, 2):
        first.publish(Placed(number))
        second.publish(Placed(number + 1))
    assert first.health().spool is not None
    shop.broker.come_back()
    assert shop.wait(40) == list(range(40))
    for bus in (first, second):
        eventually(lambda b=bus: state(b).state == "idle", 20)  # type: ignore[misc]
        assert state(bus).messages == 0
    assert state(first).sent + state(second).sent == 40
    assert min(state(first).sent, state(second).sent) == 0, "one at a time sends"
    first.stop()
    second.publish(Placed(40))
    assert shop.wait(41)[-1] == 40


def test_what_exchange_an_event_needs_is_known_to_a_bus_that_has_never_published_it(garage: Garage) -> None:
    broker, store = FlakyTransport(away=True), MemoryTransport()
    spool = Spool(store, volatile=True)
    first = garage.bus(broker, spool=spool)
    first.publish(Placed(1))
    first.stop()
    broker.come_back()
    second = garage.bus(broker, spool=spool).start()
    eventually(lambda: state(second).sent == 1, 20)
    assert "eventbus.events" in {exchange.name for exchange in broker.broker.exchanges()}
    assert second.health().unroutable == 1


def test_foreign_messages_in_the_queue_are_set_aside(garage: Garage) -> None:
    shop = Shop(garage, away=True)
    bus = shop.bus()
    bus.publish(Placed(1))
    foreign = garage.bus(shop.store, service="foreign")
    foreign.publish({"x": 1}, exchange="", topic="shop.spool")
    bus.publish(Placed(2))
    shop.broker.come_back()
    assert shop.wait(2) == [1, 2]
    assert [m.body for m in shop.store.broker.messages("shop.spool.dead")] == [b'{"x":1}']


def test_outcomes_of_a_bus_that_stops_are_told(garage: Garage) -> None:
    shop = Shop(garage)
    bus = shop.bus().start()
    shop.broker.faults.never_confirm(topic="shop.placed", times=None, taken=False)
    receipts = [bus.submit(Placed(number)) for number in range(5)]
    bus.stop(0.3)
    outcomes: list[PublishError | None] = [receipt.error() for receipt in receipts]
    assert outcomes == [None] * 5, "they lie in the spool"
    assert len(shop.kept()) == 5


def test_a_spool_that_cannot_be_used_ends_the_start_and_not_the_publishing(garage: Garage, tmp_path: Path) -> None:
    damaged = tmp_path / "spool.db"
    damaged.write_bytes(b"no database" * 1000)
    shop = Shop(garage)
    bus = garage.bus(shop.broker, spool=f"sqlite:///{damaged}", timeout=0.5)
    with pytest.raises(ConfigurationError, match="is no SQLite file"):
        bus.start()
    for number in range(10):
        bus.publish(Placed(number))
    assert shop.wait(10) == list(range(10))
    shop.broker.leave()
    with pytest.raises(NotSent):
        bus.publish(Placed(10))
    assert "is no SQLite file" in (state(bus).error or "")
    shop.broker.come_back()
    bus.publish(Placed(11))
    assert shop.wait(11)[-1] == 11
    began = time.monotonic()
    assert bus.stop(30.0).clean
    assert time.monotonic() - began < 5, "it does not wait for the store"


def test_dead_letters_of_a_spool_are_replayed_through_it(garage: Garage, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/spool.db"
    broker = FlakyTransport(away=True)
    bus = garage.bus(broker, spool=url)
    bus.publish(Placed(1), mandatory=True, headers={"a": "b"})
    broker.come_back()
    eventually(lambda: state(bus).dead_lettered == 1, 20)
    shop = Shop(garage, broker=broker)  # somebody subscribes after all
    dead = DeadLetters(url, queues=["shop.spool"])
    [letter] = eventually(lambda: dead.list().messages, 20)
    assert letter.type == "shop.placed"
    assert dead.replay().done == 1
    assert shop.wait(1) == [1]
    assert dict(shop.got[0].message.headers)["a"] == "b"
    eventually(lambda: state(bus).messages == 0, 20)
