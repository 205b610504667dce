"""What the services tell and ask each other: the only module that all of them import."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from eventbus import Request, event


@event("customers.registered", topic="customers.registered.{country}")
@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerRegistered:
    """Somebody has become a customer. The country is a part of the topic, so one can subscribe to some only."""

    customer_id: UUID
    name: str
    email: str
    country: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A price that holds for this request. Decimals travel as text, so no cent is lost."""

    total: Decimal
    currency: str


@event("pricing.quote-requested")
@dataclass(frozen=True, kw_only=True)
class QuoteRequested(Request[Quote]):
    """What do ``quantity`` pieces of ``product`` cost? The base class says what the answer is."""

    product: str
    quantity: int
    country: str
