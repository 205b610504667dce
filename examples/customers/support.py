"""Support desk: shows what the email service had to give up, and why. Sync.

``EVENTBUS_URL=sqlite:///bus.db python -m examples.customers.support``
"""

from __future__ import annotations

from typing import Any

from eventbus import Delivery, EventBus, Exchange, Queue
from examples.customers.service import Say, broker_url, say

# A dead-letter queue is a queue like any other: <queue>.dead, reached by its name through the default exchange.
DEAD = Queue.of_dead_letters("emails.customers.registered")


def build(url: str, say: Say) -> EventBus:
    """The service's bus; nothing runs yet."""
    bus = EventBus(url, service="support")

    @bus.subscribe(exchange=Exchange(name=""), queue=DEAD, name="dead-letters")
    def show(letter: Any, delivery: Delivery) -> None:
        why = delivery.headers
        say(f"in {delivery.queue}: {letter}, published as {why.get('eventbus-topic')}")
        say(f"given up because {why.get('eventbus-dead-reason')}: {why.get('eventbus-dead-error')}")

    return bus


def main() -> None:
    """Serve until SIGTERM."""
    bus = build(broker_url(), say)
    bus.start()
    say("ready")
    bus.run()


if __name__ == "__main__":
    main()
