"""Email service: sends each new customer a welcome mail. Sync; instances share the work of group "emails".

``EVENTBUS_URL=amqp://guest:guest@localhost/ python -m examples.customers.emails``
"""

from __future__ import annotations

from eventbus import Delivery, EventBus, Retry, RetryLater, exponential
from examples.customers.events import CustomerRegistered
from examples.customers.service import Say, broker_url, say


def build(url: str, say: Say) -> EventBus:
    """The service's bus; nothing runs yet."""
    bus = EventBus(url, service="emails")

    @bus.subscribe(CustomerRegistered, retry=Retry(attempts=3, backoff=exponential(0.2)))
    def welcome(event: CustomerRegistered, delivery: Delivery) -> None:
        # A mail server that is busy now and then: for Bo it takes mail only at the second attempt.
        if event.name == "Bo" and delivery.attempt == 1:
            say(f"mail to {event.email} failed: the mail server is busy (attempt 1, from {delivery.queue})")
            raise RetryLater(reason="the mail server is busy")
        say(f"mail to {event.email}: welcome, {event.name}! (attempt {delivery.attempt}, from {delivery.queue})")

    return bus


def main() -> None:
    """Serve until SIGTERM."""
    bus = build(broker_url(), say)
    bus.start()
    say("ready")
    bus.run()


if __name__ == "__main__":
    main()
