"""What holds for all tests."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine stops a test for longer than hypothesis lets an example take.
settings.register_profile("eventbus", deadline=None)
settings.load_profile("eventbus")

# A shell makes what it runs in its background deaf to Ctrl-C, and so would be the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LOGGERS = ("eventbus", "eventbus.run", "pika", "aio_pika", "aiormq")


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """A command sets log levels for its whole process; run inside of a test, it must not do so for the next ones."""
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
