"""User service: registers customers, tells everybody, and asks what their first order costs. Sync; ends by itself.

``EVENTBUS_URL=sqlite:///bus.db python -m examples.customers.users``. With two numbers it registers a crowd instead:
``... examples.customers.users 1 100`` is Customer 1 to Customer 100.
"""

from __future__ import annotations

import sys
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


def register(bus: EventBus, say: Say, number: int, name: str, country: str) -> None:
    """Tell everybody about one customer. When publish() returns, the broker has the event."""
    email = f"{name.lower().replace(' ', '-')}@example.com"
    bus.publish(CustomerRegistered(customer_id=UUID(int=number), name=name, email=email, country=country))
    say(f"published customers.registered.{country} for {name}: confirmed")


def crowd(bus: EventBus, say: Say, first: int, last: int) -> None:
    """Register many: Customer ``first`` to Customer ``last``."""
    for number in range(first, last + 1):
        register(bus, say, 1000 + number, f"Customer {number}", ("se", "no", "dk")[number % 3])


def work(bus: EventBus, say: Say) -> None:
    """Register everybody, and ask what each first order costs."""
    for number, (name, country, (quantity, product)) in enumerate(CUSTOMERS, 1):
        register(bus, say, number, name, country)
        quote = bus.request(QuoteRequested(product=product, quantity=quantity, country=country), timeout=10.0)
        say(f"asked for {quantity} x {product}: {quote.total} {quote.currency}")
    # Another team's bug: it claims to be a registration, and half of it is missing.
    bus.publish({"name": "Nobody"}, topic="customers.registered.xx", type="customers.registered")
    say("published customers.registered.xx with half of its fields: confirmed")


def main() -> None:
    """Do the work once."""
    with build(broker_url()) as bus:
        if sys.argv[1:]:
            first, last = map(int, sys.argv[1:])
            crowd(bus, say, first, last)
        else:
            work(bus, say)


if __name__ == "__main__":
    main()
