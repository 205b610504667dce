"""Services of a small shop, as the tests here need them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from eventbus import EventBus, Queue, Request, event

STRICT = "declare=passive&queue_exchange=eventbus.queues"


@event("shop.registered", topic="shop.registered.{country}")
@dataclass(frozen=True)
class Registered:
    country: str


@event("shop.quote")
@dataclass(frozen=True)
class Quote(Request[int]):
    product: str


def url() -> str:
    return os.environ.get("EVENTBUS_URL", f"amqp://localhost/?{STRICT}")


def signup(where: str | None = None, **options: Any) -> EventBus:
    return EventBus(where or url(), service="signup", publishes=[Registered], requests=[Quote], **options)


def emails(where: str | None = None, *, limit: int | None = None) -> EventBus:
    bus = EventBus(where or url(), service="emails")
    name = "emails.shop.registered"
    queue = Queue(name=name, dead_letter=f"{name}.dead", delivery_limit=20, max_length=limit)
    bus.subscribe(Registered, queue=queue)(lambda event: None)
    return bus


def pricing(where: str | None = None) -> EventBus:
    bus = EventBus(where or url(), service="pricing")
    bus.respond(Quote)(lambda request: 42)
    return bus


def climber() -> EventBus:
    return EventBus(url(), service="../climber")


def admin() -> EventBus:
    return EventBus(url(), service="admin")
