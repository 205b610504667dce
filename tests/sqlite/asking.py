"""What a bus says of a file that cannot be used. ``python -m tests.sqlite.asking``: as somebody else.

The program is given a file to try first, so that all it needs is imported, and then becomes a user without rights.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from eventbus import AsyncEventBus, EventBus, EventBusError

NOBODY = 65534
Answer = tuple[str, str]
"""The name of the error and its text; empty when the bus starts."""


def ask(kind: str, url: str) -> Answer:
    """Start a bus of this kind (sync or async) on the URL."""
    try:
        if kind == "sync":
            with EventBus(url, service="asking") as bus:
                bus.subscribe(pattern="#")(lambda event: None)
                bus.start(timeout=30)
        else:
            asyncio.run(_start(url))
    except EventBusError as error:
        return type(error).__name__, str(error)
    return "", ""


async def _start(url: str) -> None:
    async with AsyncEventBus(url, service="asking") as bus:

        async def handle(event: object) -> None:
            """Nothing comes."""

        bus.subscribe(pattern="#")(handle)
        await bus.start(timeout=30)


def ask_as_nobody(url: str, usable: Path) -> dict[str, Answer]:
    """As :func:`ask`, of both kinds, by a user who may do only what everybody may."""
    words = [sys.executable, "-m", "tests.sqlite.asking", url, f"sqlite:///{usable}"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return {kind: (answer[0], answer[1]) for kind, answer in json.loads(told.stdout).items()}


def main() -> None:
    url, usable = sys.argv[1:]
    for kind in ("sync", "async"):
        assert ask(kind, usable) == ("", "")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    print(json.dumps({kind: ask(kind, url) for kind in ("sync", "async")}))


if __name__ == "__main__":
    main()
