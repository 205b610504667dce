"""Sequences over links, written once: generators that yield what they wait for, and who waits for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from typing import TypeVar, cast

import msgspec

from eventbus._errors import ConnectionFailed
from eventbus.transport import AsyncLink, SyncLink

T = TypeVar("T")

CLOSE_SECONDS = 5.0
ANSWER_SECONDS = 15.0


class Wait(msgspec.Struct, frozen=True):
    """Until a link reports something, or ``seconds`` have passed."""

    seconds: float


class Ready(msgspec.Struct, frozen=True):
    """Until the link is connected and its consumers run; raises what is in the way."""

    link: SyncLink | AsyncLink


class Stop(msgspec.Struct, frozen=True):
    """Until the link consumes no more."""

    link: SyncLink | AsyncLink


class Flush(msgspec.Struct, frozen=True):
    """Until the link's settlements are carried out."""

    link: SyncLink | AsyncLink


Step = Wait | Ready | Stop | Flush
Steps = Generator[Step, None, T]


def run_steps(steps: Steps[T], news: threading.Event, timeout: float) -> T:
    """Go through the steps over links for threads; ``timeout`` is seconds to get ready."""
    error: Exception | None = None
    while True:
        try:
            step = steps.throw(error) if error is not None else next(steps)
        except StopIteration as end:
            return cast(T, end.value)
        error = None
        try:
            match step:
                case Wait(seconds):
                    news.wait(seconds)
                    news.clear()
                case Ready(link):
                    cast(SyncLink, link).wait_ready(timeout)
                case Stop(link):
                    cast(SyncLink, link).stop_consuming(CLOSE_SECONDS)
                case Flush(link):
                    cast(SyncLink, link).flush(CLOSE_SECONDS)
        except Exception as failure:
            error = failure


async def run_async_steps(steps: Steps[T], news: asyncio.Event, timeout: float) -> T:
    """Go through the steps over links for a loop; ``timeout`` is seconds to get ready."""
    error: Exception | None = None
    while True:
        try:
            step = steps.throw(error) if error is not None else next(steps)
        except StopIteration as end:
            return cast(T, end.value)
        error = None
        try:
            match step:
                case Wait(seconds):
                    await _wait(news, seconds)
                    news.clear()
                case Ready(link):
                    await cast(AsyncLink, link).wait_ready(timeout)
                case Stop(link):
                    await cast(AsyncLink, link).stop_consuming(CLOSE_SECONDS)
                case Flush(link):
                    await cast(AsyncLink, link).flush(CLOSE_SECONDS)
        except Exception as failure:
            error = failure


async def _wait(news: asyncio.Event, seconds: float) -> None:
    if news.is_set():
        await asyncio.sleep(0)  # the links have work on this loop, too
        return
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        pass


def answer(
    ask: Callable[[Callable[[T | Exception], None]], None],
    wake: Callable[[], None],
    check: Callable[[], None],
    what: str,
) -> Steps[T]:
    """Ask a broker, by a function that is given where the answer goes. ``check`` raises if none will come any more.

    :raises ConnectionFailed: there is no answer in 15 seconds; ``what`` names the question. What the answer says too.
    """
    found: list[T | Exception] = []

    def done(value: T | Exception) -> None:
        found.append(value)
        wake()

    ask(done)
    until = time.monotonic() + ANSWER_SECONDS
    while not found:
        check()
        if time.monotonic() > until:
            raise ConnectionFailed(f"the broker does not say {what}")
        yield Wait(1.0)
    value = found[0]
    if isinstance(value, Exception):
        check()
        raise value
    return value
