"""Both ends of a relay: a shop that stores its orders in an outbox, and a service that collects what comes of it."""

from __future__ import annotations

from collections import defaultdict

from eventbus_outbox import Outbox

from eventbus import Delivery, EventBus
from tests.outbox.places import Ordered, Place


class Shop:
    """Stores orders, keyed by their customer."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.outbox = Outbox(EventBus("memory://never-connected", service="shop"))
        with place.session() as session:
            self.outbox.create(session)

    def add(self, *orders: Ordered) -> list[str]:
        with self.place.session() as session:
            return [self.outbox.add(session, order, key=order.customer).id for order in orders]

    def rows(self) -> int:
        with self.place.session() as session:
            lag = self.outbox.lag(session)
            assert lag.set_aside == 0
            return lag.rows


class Collector:
    """All orders that come over a broker, with their ids, in their order."""

    def __init__(self, url: str, name: str) -> None:
        self.got: list[tuple[str, str, int]] = []
        self.bus = EventBus(url, service=f"collector-{name}")
        self.bus.subscribe(Ordered)(self._note)

    def _note(self, event: Ordered, delivery: Delivery) -> None:
        self.got.append((delivery.id, event.customer, event.number))

    def first_times(self) -> dict[str, list[int]]:
        """The numbers of each customer, without what came again."""
        seen: set[str] = set()
        numbers: dict[str, list[int]] = defaultdict(list)
        for id, customer, number in list(self.got):
            if id not in seen:
                seen.add(id)
                numbers[customer].append(number)
        return numbers

    def __enter__(self) -> Collector:
        self.bus.start(timeout=60)
        return self

    def __exit__(self, *args: object) -> None:
        self.bus.stop()
