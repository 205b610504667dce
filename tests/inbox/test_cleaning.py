"""Old ids are forgotten, a few at a time."""

import logging
from typing import Annotated, Any

import pytest
import sqlalchemy
from eventbus_inbox import AsyncInbox, Inbox
from eventbus_inbox._cleaning import STEP, Cleaning
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from eventbus import Depends, EventBus
from eventbus.testing import BusTester
from tests.inbox.places import Ledger, Paid


def fill(ledger: Ledger, count: int, *, age: float) -> None:
    now = "extract(epoch FROM now())" if ledger.kind == "postgresql" else "(julianday('now') - 2440587.5) * 86400"
    engine = sqlalchemy.create_engine(ledger.url)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(f"INSERT INTO eventbus_inbox VALUES ('s', '', :id, {now} - :age)"),
            [{"id": f"{age}-{number}", "age": age} for number in range(count)],
        )
    engine.dispose()


def test_what_is_old_is_forgotten_and_what_is_young_is_not(ledger: Ledger) -> None:
    fill(ledger, 2 * STEP + 10, age=1000)
    fill(ledger, 7, age=10)
    for database in (ledger.url, ledger.connect):
        inbox = Inbox(database, keep=500)
        removed = inbox.clean()
        assert removed == (2 * STEP + 10 if database is ledger.url else 0)
    assert len(ledger.ids) == 7
    assert all(id.startswith("10-") for id in ledger.ids)


@pytest.mark.asyncio
async def test_async_what_is_old_is_forgotten(async_ledger: Ledger) -> None:
    fill(async_ledger, STEP + 10, age=1000)
    fill(async_ledger, 7, age=10)
    engine = create_async_engine(async_ledger.async_url)
    assert await AsyncInbox(engine, keep=500).clean() == STEP + 10
    await engine.dispose()
    assert len(async_ledger.ids) == 7


def test_deliveries_clean_a_step_at_a_time(ledger: Ledger) -> None:
    fill(ledger, 2 * STEP + 10, age=1000)
    bus = EventBus("memory://bank", service="bank")
    engine = sqlalchemy.create_engine(ledger.url)
    inbox = Inbox(engine, keep=500, clean_every=0.0)
    left: list[int] = []

    @bus.subscribe(Paid)
    def book(event: Paid, db: Annotated[Session, Depends(inbox.session)]) -> None:
        pass

    with BusTester(bus) as t:
        for _ in range(4):
            t.publish(Paid(5))
            left.append(len(ledger.ids))
    assert left == [STEP + 10 + 1, 10 + 2, 3, 4]
    engine.dispose()


def test_a_clean_up_that_fails_is_logged_and_fails_nothing(
    ledger: Ledger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    bus = EventBus("memory://bank", service="bank")
    inbox = Inbox(ledger.connect, clean_every=0.0)

    @bus.subscribe(Paid)
    def book(event: Paid, db: Annotated[Any, Depends(inbox.connection)]) -> None:
        pass

    def broken() -> int:
        raise RuntimeError("the database has other worries")

    monkeypatch.setattr(inbox, "_clean_step", broken)
    with BusTester(bus) as t:
        t.publish(Paid(5))
        assert not t.errors
        assert not t.dead_letters
    assert "the database has other worries" in caplog.text
    assert len(ledger.ids) == 1


def test_a_step_is_due_once_in_its_time_and_at_once_while_there_is_more() -> None:
    never = Cleaning(3600.0)
    assert not never.take()
    always = Cleaning(0.0)
    assert always.take()
    busy = Cleaning(3600.0)
    busy.ended(STEP - 1, STEP)
    assert not busy.take()
    busy.ended(STEP, STEP)
    assert busy.take()
    assert not busy.take(), "it is somebody's already"
