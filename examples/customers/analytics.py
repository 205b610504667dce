"""Analytics service: counts customers by country. Async; every instance counts all of them (broadcast).

``EVENTBUS_URL=sqlite:///bus.db python -m examples.customers.analytics``
"""

from __future__ import annotations

from collections import Counter

from eventbus import AsyncEventBus, run
from examples.customers.events import CustomerRegistered
from examples.customers.service import Say, broker_url, say


def build(url: str, say: Say) -> AsyncEventBus:
    """The service's bus; nothing runs yet."""
    bus = AsyncEventBus(url, service="analytics")
    countries: Counter[str] = Counter()

    @bus.subscribe(CustomerRegistered, broadcast=True)
    async def count(event: CustomerRegistered) -> None:
        countries[event.country] += 1
        say(f"{event.name} is number {countries[event.country]} from {event.country}")

    return bus


async def main() -> None:
    """Serve until SIGTERM."""
    bus = build(broker_url(), say)
    await bus.start()
    say("ready")
    await bus.run()


if __name__ == "__main__":
    run(main())
