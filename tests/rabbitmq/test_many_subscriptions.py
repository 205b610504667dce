"""A process with very many subscriptions: starting them is no quadratic work, and each gets its own messages."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import AsyncEventBus, EventBus, Middleware, event
from eventbus.testing import eventually
from eventbus.transport import LinkStatus

MANY = 300


@event("many.counted", topic="many.counted.{number}")
@dataclass(frozen=True)
class Counted:
    number: int


class Statuses(Middleware):
    """Counts how often the bus was told of its link."""

    def __init__(self) -> None:
        self.told = 0

    def link_changed(self, bus: EventBus | AsyncEventBus, status: LinkStatus) -> None:
        self.told += 1


def test_many_subscriptions_start_with_few_statuses_and_get_what_is_theirs(broker: LocalBroker) -> None:
    statuses, lock = Statuses(), threading.Lock()
    seen: dict[int, list[int]] = {number: [] for number in range(MANY)}

    def handler(own: int) -> Any:
        def handle(counted: Counted) -> None:
            with lock:
                seen[own].append(counted.number)

        return handle

    with EventBus(f"{broker.url}?queue_type=classic", service="many", middleware=[statuses]) as bus:
        for number in range(MANY):
            bus.subscribe(Counted, name=f"many-{number}", pattern=f"many.counted.{number}", broadcast=True)(
                handler(number)
            )
        bus.wait_ready(60)
        assert set(bus.health().consumers.values()) == {"ready"}
        # Each consumer goes through several states; told one by one, that would be some for each.
        assert statuses.told < MANY
        bus.publish_many(Counted(number) for _ in range(3) for number in range(MANY))
        eventually(lambda: all(numbers == [own] * 3 for own, numbers in seen.items()), timeout=30)
