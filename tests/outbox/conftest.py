"""A real PostgreSQL and a real RabbitMQ beside SQLite and memory. Without them the tests fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from tests.outbox.places import Market, Place
from tests.postgres import LocalPostgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    with LocalPostgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return Place.sqlite(tmp_path)
    return Place.postgresql(request.getfixturevalue("postgres"))


@pytest.fixture
def market() -> Iterator[Market]:
    with Market() as market:
        yield market


@pytest.fixture(scope="session")
def broker() -> Iterator[LocalBroker]:
    with LocalBroker(config={"max_message_size": str(1 << 20)}) as broker:
        yield broker
