"""Pricing service: answers what things cost. Async; instances share the requests.

``EVENTBUS_URL=sqlite:///bus.db python -m examples.customers.pricing``
"""

from __future__ import annotations

from decimal import Decimal

from eventbus import AsyncEventBus, run
from examples.customers.events import Quote, QuoteRequested
from examples.customers.service import Say, broker_url, say

PRICES = {"tea": Decimal("4.50"), "honey": Decimal("7.25")}


def build(url: str, say: Say) -> AsyncEventBus:
    """The service's bus; nothing runs yet."""
    bus = AsyncEventBus(url, service="pricing")

    @bus.respond(QuoteRequested)
    async def quote(request: QuoteRequested) -> Quote:
        answer = Quote(total=PRICES[request.product] * request.quantity, currency="EUR")
        say(f"asked for {request.quantity} x {request.product}: answered {answer.total} {answer.currency}")
        return answer

    return bus


async def main() -> None:
    """Serve until SIGTERM."""
    bus = build(broker_url(), say)
    await bus.start()
    say("ready")
    await bus.run()


if __name__ == "__main__":
    run(main())
