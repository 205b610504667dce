"""The services' buses by name, for the command: ``eventbus run examples.customers.buses:emails``."""

from __future__ import annotations

import os

from eventbus import AsyncEventBus, EventBus
from examples.customers import analytics as analytics_service
from examples.customers import emails as emails_service
from examples.customers import pricing as pricing_service
from examples.customers import support as support_service
from examples.customers import users as users_service
from examples.customers.service import say


def _url() -> str:
    # What a service needs can be looked at where there is no broker yet.
    return os.environ.get("EVENTBUS_URL", "sqlite:///bus.db")


def analytics() -> AsyncEventBus:
    """Counts customers."""
    return analytics_service.build(_url(), say)


def emails() -> EventBus:
    """Sends mails."""
    return emails_service.build(_url(), say)


def pricing() -> AsyncEventBus:
    """Answers what things cost."""
    return pricing_service.build(_url(), say)


def support() -> EventBus:
    """Looks at what was given up."""
    return support_service.build(_url(), say)


def users() -> EventBus:
    """Registers customers."""
    return users_service.build(_url())
