"""A real PostgreSQL and a real RabbitMQ beside SQLite and memory. Without them the tests fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from tests.inbox.places import Ledger
from tests.postgres import LocalPostgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    with LocalPostgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """A database of each kind, with the tables of application and inbox."""
    if request.param == "sqlite":
        return Ledger.sqlite(tmp_path)
    return Ledger.postgresql(request.getfixturevalue("postgres"))


@pytest.fixture(params=["sqlite", "asyncpg", "psycopg"])
def async_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """As ``ledger``, for each driver of asyncio."""
    if request.param == "sqlite":
        return Ledger.sqlite(tmp_path)
    return Ledger.postgresql(request.getfixturevalue("postgres"), async_driver=request.param)


@pytest.fixture(scope="session")
def broker() -> Iterator[LocalBroker]:
    with LocalBroker() as broker:
        yield broker
