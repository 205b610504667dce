"""What holds for all tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

LOGGERS = ("eventbus", "eventbus.run", "pika", "aio_pika", "aiormq")


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """A command sets log levels for its whole process; run inside of a test, it must not do so for the next ones."""
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
