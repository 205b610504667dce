"""A handler, or a dependency of it, says that a message's work has been done before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NoReturn

import pytest

from eventbus import AlreadyHandled, AsyncEventBus, Depends, EventBus, Request, RequestTimeout, event
from eventbus.testing import AsyncBusTester, BusTester


@event("already.charged")
@dataclass(frozen=True)
class Charged:
    amount: int


@event("already.asked")
@dataclass(frozen=True)
class Asked(Request[int]):
    number: int


def remembers() -> Iterator[int]:
    raise AlreadyHandled
    yield 1


def refuse(amount: int) -> NoReturn:
    raise AlreadyHandled(f"{amount} was charged yesterday")


def test_a_dependency_that_says_so_keeps_the_handler_from_running(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bus = EventBus("memory://already", service="already")
    ran: list[int] = []

    @bus.subscribe(Charged)
    def charge(event: Charged, known: Annotated[int, Depends(remembers)]) -> None:
        ran.append(event.amount)

    with BusTester(bus) as t:
        t.publish(Charged(5))
        assert not ran
        assert not t.dead_letters
        assert [type(error) for error in t.errors] == [AlreadyHandled]
    assert "has been handled before; acked" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.asyncio
async def test_an_async_handler_may_say_so_itself() -> None:
    bus = AsyncEventBus("memory://already", service="already")
    ran: list[int] = []

    @bus.subscribe(Charged)
    async def charge(event: Charged) -> None:
        ran.append(event.amount)
        refuse(event.amount)

    async with AsyncBusTester(bus) as t:
        await t.publish(Charged(5))
        assert ran == [5], "acked, so it comes once"
        assert not t.dead_letters


def test_a_request_is_acked_without_an_answer() -> None:
    bus = EventBus("memory://already", service="already")
    ran: list[int] = []

    @bus.respond(Asked)
    def answer(request: Asked) -> int:
        ran.append(request.number)
        refuse(request.number)

    with BusTester(bus):
        with pytest.raises(RequestTimeout):
            bus.request(Asked(5), timeout=0.2)
        assert ran == [5]
