"""Ordered, partitioned and batched subscriptions as values, and what is refused of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from eventbus import Batch, ConfigurationError, Context, Delivery, Depends, EventBus, Queue, Router, event
from eventbus._keys import SLOTS
from eventbus._partitions import surplus
from eventbus._subscription import Subscription


@event("shop.moved")
@dataclass
class Moved:
    customer: str = ""


@event("shop.left")
@dataclass
class Left:
    customer: str = ""


def subscribed(handler: Any = lambda event: None, *events: type, **options: Any) -> Subscription:
    bus = EventBus("memory://", service="shop")
    bus.subscribe(*(events or (Moved,)), **options)(handler)
    (served,) = bus._served.values()
    return served.subscription


def test_an_ordered_queue_has_a_single_active_consumer_and_looks_further_ahead() -> None:
    made = subscribed(ordered=True, concurrency=4)
    (spec,) = made.consumers()
    assert made.queue.single_active_consumer
    assert spec.ordered
    assert spec.prefetch == 104
    plain = subscribed()
    assert not plain.queue.single_active_consumer
    assert not plain.consumers()[0].ordered


def test_a_queue_that_is_given_stays_as_it_is() -> None:
    made = subscribed(ordered=True, queue=Queue(name="theirs"))
    assert made.queue == Queue(name="theirs")
    assert made.consumers()[0].ordered


def test_partitions_are_queues_that_share_the_prefetch_and_are_reached_by_slots() -> None:
    made = subscribed(partitions=3, prefetch=32, dead_letter=True)
    first, second, third = made.consumers()
    assert [spec.name for spec in (first, second, third)] == [
        "shop.shop.moved.0",
        "shop.shop.moved.1",
        "shop.shop.moved.2",
    ]
    assert {spec.prefetch for spec in (first, second, third)} == {10}
    assert {spec.queue.dead_letter for spec in (first, second, third)} == {"shop.shop.moved.dead"}
    assert all(spec.queue.single_active_consumer and spec.ordered for spec in (first, second, third))
    slots = [name for b in first.topology.bindings for name in b.arguments if name.startswith("eventbus-slot-")]
    assert len(slots) == len(set(slots)) == SLOTS
    outer = [b for b in first.topology.bindings if b.exchange == "eventbus.events"]
    assert [(b.pattern, b.to_exchange, b.queue) for b in outer] == [("shop.moved", "shop.shop.moved.partitions", None)]
    assert first.topology.bindings[-1] == outer[0], "the way in comes last"


def test_the_consumer_of_one_partition_makes_sure_of_its_own_part() -> None:
    _, second, _ = subscribed(partitions=3).consumers()
    assert [queue.name for queue in second.topology.queues] == ["shop.shop.moved.1"]
    assert {binding.queue for binding in second.topology.bindings} == {"shop.shop.moved.1"}
    assert [e.name for e in second.topology.exchanges] == ["shop.shop.moved.partitions.3", "shop.shop.moved.partitions"]


def test_processes_that_share_partitions_are_counted_on_a_queue_that_dies_with_them() -> None:
    members = subscribed(partitions=2).members()
    assert members is not None
    assert members.auto_ack
    assert members.queue.auto_delete
    assert members.queue.name == "shop.shop.moved.members"
    assert subscribed(partitions=1).members() is None
    assert subscribed(ordered=True).members() is None


@pytest.mark.parametrize(
    ("held", "partitions", "members", "too_many"),
    [(8, 8, 1, 0), (8, 8, 2, 4), (4, 8, 2, 0), (3, 8, 3, 0), (4, 8, 3, 1), (2, 2, 5, 1), (0, 8, 2, 0), (8, 8, 0, 0)],
)
def test_a_process_gives_up_what_is_above_its_share(held: int, partitions: int, members: int, too_many: int) -> None:
    assert surplus(held, partitions, members) == too_many


def test_a_batch_raises_the_prefetch_to_what_it_needs() -> None:
    def handle(moved: list[Moved]) -> None: ...

    assert subscribed(handle, batch=Batch(size=100)).prefetch == 200
    assert subscribed(handle, batch=Batch(size=100), concurrency=3).prefetch == 400
    assert subscribed(handle, batch=Batch(size=10_000), concurrency=50).prefetch == 65535
    assert subscribed(handle, batch=Batch(size=100), prefetch=150).prefetch == 150


def _lists(moved: list[Moved]) -> None: ...
def _sequences(moved: Sequence[Moved | Left], deliveries: Sequence[Delivery]) -> None: ...
def _bare(moved: Any, deliveries: list[Delivery], context: Context) -> None: ...


@pytest.mark.parametrize(("handler", "events"), [(_lists, 1), (_sequences, 2)])
def test_a_batch_s_events_are_found_by_annotation(handler: Any, events: int) -> None:
    bus, router = EventBus("memory://", service="shop"), Router()
    router.subscribe(name="n", batch=Batch())(handler)
    bus.include(router)
    (served,) = bus._served.values()
    assert len(served.subscription.events) == events


def test_what_a_batch_s_handler_may_take() -> None:
    assert subscribed(_bare, batch=Batch()).handler.takes_delivery
    assert subscribed(_bare, batch=Batch()).handler.arguments == {"context": Context}


def one_delivery(delivery: Delivery) -> str:
    return ""


def _not_a_list(moved: Moved) -> None: ...
def _one(moved: list[Moved], delivery: Delivery) -> None: ...
def _depends(moved: list[Moved], name: Annotated[str, Depends(one_delivery)]) -> None: ...


@pytest.mark.parametrize(("handler", "why"), [(_not_a_list, "list of"), (_one, "deliveries"), (_depends, "deliveries")])
def test_handlers_that_do_not_fit_a_batch_are_refused(handler: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        subscribed(handler, batch=Batch())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"partitions": 0}, "1 to 64"),
        ({"partitions": 65}, "1 to 64"),
        ({"partitions": 4, "broadcast": True}, "broadcast"),
        ({"partitions": 4, "prefetch": 3}, "prefetch"),
        ({"ordered": True, "settle": "receipt"}, "receipt"),
        ({"ordered": True, "batch": Batch()}, "batch"),
        ({"partitions": 2, "batch": Batch()}, "batch"),
        ({"batch": Batch(size=10), "prefetch": 9}, "never be full"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        subscribed(_lists if "batch" in options else lambda event: None, **options)


@pytest.mark.parametrize("options", [{"ordered": True}, {"partitions": 2}, {"batch": Batch()}])
def test_responders_have_neither_order_nor_batches(options: dict[str, Any]) -> None:
    bus = EventBus("memory://", service="shop")
    with pytest.raises(ConfigurationError, match="one by one"):
        bus.respond(Moved, **options)(_lists if "batch" in options else lambda event: None)


def test_a_delivery_is_settled_by_hand_only_where_that_is_meant() -> None:
    made = subscribed(_lists, batch=Batch())
    settled: list[Any] = []
    incoming: Any = type("Incoming", (), {"message": None})()
    Delivery(incoming, made, lambda delivery, settlement: settled.append(settlement)).ack()
    assert len(settled) == 1
    with pytest.raises(ConfigurationError, match="by itself"):
        Delivery(incoming, subscribed(), lambda delivery, settlement: None).ack()
