"""What type checkers know of the public API; checked by mypy and basedpyright, never run.

`assert_type` fails the check when a type is another one, and the `# expect-error` lines must be errors:
both checkers report an ignore comment that ignores nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, assert_type

from eventbus import AsyncEventBus, Batch, Context, Delivery, Depends, EventBus, Receipt, Request, Router, event


@dataclass(frozen=True)
class Quote:
    amount: int


@event("pricing.quote-requested")
@dataclass(frozen=True)
class QuoteRequested(Request[Quote]):
    product: str


@event("customers.registered", topic="customers.registered.{country}")
@dataclass(frozen=True)
class CustomerRegistered:
    country: str


@event("customers.left")
@dataclass(frozen=True)
class CustomerLeft:
    country: str


def database() -> int:
    return 1


def sync_side(bus: EventBus, router: Router) -> None:
    assert_type(bus.request(QuoteRequested("tea")), Quote)
    assert_type(bus.request(QuoteRequested("tea"), timeout=1.0), Quote)
    assert_type(bus.request({"a": 1}, reply=Quote, topic="quotes"), Quote)
    assert_type(bus.submit(CustomerRegistered("se")), Receipt)
    assert_type(bus.publish_many([CustomerRegistered("se")]), int)
    assert_type(CustomerRegistered("se").country, str)

    @bus.subscribe(CustomerRegistered, group="emails")
    def welcome(event: CustomerRegistered) -> None: ...

    @bus.subscribe(CustomerRegistered)
    def with_delivery(event: CustomerRegistered, delivery: Delivery) -> None: ...

    @bus.subscribe
    def by_annotation(event: CustomerLeft, ctx: Context, db: Annotated[int, Depends(database)]) -> None: ...

    @bus.subscribe(CustomerRegistered, CustomerLeft)
    def either(event: CustomerRegistered | CustomerLeft) -> None: ...

    @bus.subscribe(CustomerRegistered, ordered=True, concurrency=10)
    def in_order(event: CustomerRegistered) -> None: ...

    @bus.subscribe(CustomerRegistered, batch=Batch(size=10, wait=0.1), group="index")
    def many(events: list[CustomerRegistered], deliveries: list[Delivery]) -> None: ...

    @bus.subscribe(CustomerRegistered, CustomerLeft, batch=Batch(size=10))
    def many_of_both(events: list[CustomerRegistered | CustomerLeft]) -> None: ...

    @bus.subscribe(CustomerRegistered, batch=Batch())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def not_many(event: CustomerRegistered) -> None: ...

    bus.publish(CustomerRegistered("se"), key="customer-1")

    @router.respond(QuoteRequested)
    def quote(request: QuoteRequested) -> Quote:
        return Quote(1)

    @bus.subscribe(CustomerRegistered)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def wrong(event: CustomerLeft) -> None: ...

    @router.respond(QuoteRequested)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def wrong_request(request: CustomerLeft) -> Quote:
        return Quote(1)

    bus.publish(CustomerRegistered("se"), ttl="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(welcome(CustomerRegistered("se")), None)
    assert_type(quote(QuoteRequested("tea")), Quote)


async def async_side(bus: AsyncEventBus) -> None:
    assert_type(await bus.request(QuoteRequested("tea"), timeout=1.0), Quote)
    assert_type(await bus.request({"a": 1}, reply=Quote, topic="quotes"), Quote)
    anything: Any = await bus.request({"a": 1}, topic="quotes")
    await bus.publish(anything)

    @bus.subscribe(CustomerRegistered)
    async def welcome(event: CustomerRegistered) -> None: ...

    @bus.subscribe(CustomerRegistered, batch=Batch(size=10, wait=0.1))
    async def many(events: list[CustomerRegistered]) -> None: ...

    @bus.respond(QuoteRequested)
    async def quote(request: QuoteRequested) -> Quote:
        return Quote(1)

    await welcome(CustomerRegistered("se"))
    assert_type(await quote(QuoteRequested("tea")), Quote)
