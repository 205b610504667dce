"""What the example's programs share: where the broker is, and how they speak."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

Say = Callable[[str], None]


def broker_url() -> str:
    """The broker of ``EVENTBUS_URL``; these programs are processes, so it must be one that connects processes."""
    url = os.environ.get("EVENTBUS_URL", "")
    if not url:
        sys.exit("set EVENTBUS_URL to the broker's URL, such as sqlite:///bus.db or amqp://guest:guest@localhost/")
    if url.startswith("memory:"):
        sys.exit(
            "memory:// stays within one process, so these programs would not meet: set EVENTBUS_URL to "
            "sqlite:///bus.db or a broker, or run all in one process: python -m examples.customers.demo --broker memory"
        )
    return url


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)
