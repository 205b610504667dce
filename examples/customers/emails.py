"""Email service: sends each new customer a welcome mail. Sync; instances share the work of group "emails".

``EVENTBUS_URL=sqlite:///bus.db python -m examples.customers.emails``
"""

from __future__ import annotations

import threading

from eventbus import Delivery, EventBus, Retry, RetryLater, exponential
from examples.customers.events import CustomerRegistered
from examples.customers.service import Say, broker_url, say

# The mail server does not answer for this customer of the crowd (see users.py), until another process asks.
STUCK = "Customer 30"


def build(url: str, say: Say) -> EventBus:
    """The service's bus; nothing runs yet."""
    bus = EventBus(url, service="emails")

    @bus.subscribe(CustomerRegistered, retry=Retry(attempts=3, backoff=exponential(0.2)))
    def welcome(event: CustomerRegistered, delivery: Delivery) -> None:
        # A mail server that is busy now and then: for Bo it takes mail only at the second attempt.
        if event.name == "Bo" and delivery.attempt == 1:
            say(f"mail to {event.email} failed: the mail server is busy (attempt 1, from {delivery.queue})")
            raise RetryLater(reason="the mail server is busy")
        if event.name == STUCK and not delivery.redelivered:
            say(f"mail to {event.email}: no answer from the mail server")
            threading.Event().wait(60)
            raise RetryLater(reason="no answer from the mail server")
        again = ", redelivered" if delivery.redelivered else ""
        say(f"mail to {event.email}: welcome, {event.name}! (attempt {delivery.attempt}, from {delivery.queue}{again})")

    return bus


def main() -> None:
    """Serve until SIGTERM."""
    bus = build(broker_url(), say)
    bus.start()
    say("ready")
    bus.run()


if __name__ == "__main__":
    main()
