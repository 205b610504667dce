"""User service: registers customers, tells everybody, and asks what their first order costs. Sync; ends by itself.

``EVENTBUS_URL=amqp://guest:guest@localhost/ python -m examples.customers.users``
"""

from __future__ import annotations

from uuid import UUID

from eventbus import EventBus
from examples.customers.events import CustomerRegistered, QuoteRequested
from examples.customers.service import Say, broker_url, say

# Name, country, first order: invented people.
CUSTOMERS = (
    ("Ada", "se", (3, "tea")),
    ("Bo", "no", (1, "honey")),
    ("Cleo", "se", (2, "honey")),
    ("Dan", "dk", (10, "tea")),
)


def build(url: str) -> EventBus:
    """The service's bus; nothing runs yet. ``mandatory``: it wants to know when nobody listens.

    What it publishes and asks is said here, so that its permissions can be made from its code (see ``secure.py``).
    """
    return EventBus(url, service="users", mandatory=True, publishes=[CustomerRegistered], requests=[QuoteRequested])


def work(bus: EventBus, say: Say) -> None:
    """Register everybody. When publish() returns, the broker has the event."""
    for number, (name, country, (quantity, product)) in enumerate(CUSTOMERS, 1):
        event = CustomerRegistered(
            customer_id=UUID(int=number), name=name, email=f"{name.lower()}@example.com", country=country
        )
        bus.publish(event)
        say(f"published customers.registered.{country} for {name}: confirmed")
        quote = bus.request(QuoteRequested(product=product, quantity=quantity, country=country), timeout=10.0)
        say(f"asked for {quantity} x {product}: {quote.total} {quote.currency}")
    # Another team's bug: it claims to be a registration, and half of it is missing.
    bus.publish({"name": "Nobody"}, topic="customers.registered.xx", type="customers.registered")
    say("published customers.registered.xx with half of its fields: confirmed")


def main() -> None:
    """Do the work once."""
    with build(broker_url()) as bus:
        work(bus, say)


if __name__ == "__main__":
    main()
