"""``run`` takes uvloop where it is installed, and does without."""

from __future__ import annotations

import asyncio
import sys

import pytest
import uvloop

from eventbus import AsyncEventBus, run


async def loop_of_a_bus() -> type:
    async with AsyncEventBus("memory://run") as bus:
        await bus.publish({"a": 1}, topic="run.tried")
        return type(asyncio.get_running_loop())


def test_an_installed_uvloop_is_used() -> None:
    assert run(loop_of_a_bus()) is uvloop.Loop


def test_without_uvloop_it_is_asyncios_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert issubclass(run(loop_of_a_bus()), asyncio.SelectorEventLoop)


def test_what_the_coroutine_raises_comes_out() -> None:
    async def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run(fails())
