"""Running a program of coroutines on the quickest event loop that is installed."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """``asyncio.run``, on uvloop's event loop where uvloop is installed (``pip install "eventbus[uvloop]"``).

    An :class:`AsyncEventBus` runs on any loop; this spares the program the choice. Uses: ``run(bus.run())``.
    """
    import asyncio

    factory = None
    try:
        import uvloop
    except ImportError:
        pass
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        return runner.run(main)
