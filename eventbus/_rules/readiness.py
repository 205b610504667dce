"""Whether all of a link runs, for ``wait_ready``."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable

from eventbus._errors import BusClosed, ConnectionFailed
from eventbus.transport import LinkStatus, Phase

Ready = Callable[[], Exception | bool]


def readiness(status: LinkStatus, refused: Iterable[Exception]) -> Exception | bool:
    """True when all runs; an error that does not mend itself; or False."""
    if status.phase is Phase.CLOSED:
        return BusClosed("the link is closed")
    if status.phase is Phase.FAILED and status.error is not None:
        return status.error
    failed = (c.error for c in status.consumers.values() if c.phase is Phase.FAILED)
    for error in (*refused, *failed):
        if error is not None:
            return error
    return status.phase is Phase.READY and all(c.phase is Phase.READY for c in status.consumers.values())


def not_ready(status: LinkStatus) -> Exception:
    """What to raise when the time to get ready is over."""
    errors = [status.error, *(c.error for c in status.consumers.values())]
    return next((e for e in errors if e is not None), ConnectionFailed("the link is not open"))


def wait_in_thread(news: threading.Condition, ready: Ready, status: Callable[[], LinkStatus], timeout: float) -> None:
    """Until it is ready; ``news`` is notified when it may be. Raises the error that keeps it from that."""
    until = time.monotonic() + timeout
    with news:
        while (found := ready()) is False:
            if not news.wait(max(0.0, until - time.monotonic())) and ready() is False:
                raise not_ready(status())
    if isinstance(found, Exception):
        raise found


async def wait_on_loop(news: asyncio.Event, ready: Ready, status: Callable[[], LinkStatus], timeout: float) -> None:
    """As :func:`wait_in_thread`; ``news`` is set when it may be ready."""
    try:
        async with asyncio.timeout(timeout):
            while (found := ready()) is False:
                news.clear()
                await news.wait()
    except TimeoutError:
        raise not_ready(status()) from None
    if isinstance(found, Exception):
        raise found
