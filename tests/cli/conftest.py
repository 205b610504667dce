"""The ``eventbus`` command as a process, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

APPS = '''
"""Buses for the tests of the command line."""
import os
import signal
import time
from dataclasses import dataclass
from eventbus import AsyncEventBus, ConfigurationError, EventBus, Request, event

@event("cli.registered", topic="cli.registered.{country}")
@dataclass(frozen=True)
class Registered:
    country: str

@event("cli.quote")
@dataclass(frozen=True)
class Quote(Request[int]):
    product: str

URL = os.environ.get("EVENTBUS_URL", "memory://cli")
bus = EventBus(URL, service="cli", publishes=[Registered], requests=[Quote])

@bus.subscribe(Registered)
def handle(event):
    print("handled", event.country, os.getpid(), flush=True)
    if event.country == "slow":
        time.sleep(30)

async_bus = AsyncEventBus(URL, service="cli-async")

@async_bus.respond(Quote)
async def quote(request):
    return len(request.product)

def factory():
    return EventBus(URL, service="made")

def dies():
    os.kill(os.getpid(), signal.SIGKILL)

def broken():
    raise ConfigurationError("this one cannot be built")

class Holder:
    inner = bus

number = 5
'''


class Command:
    """Runs ``eventbus`` in a folder with a module ``apps``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "apps.py").write_text(APPS)

    def environment(self, **more: str) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS_")}
        return clean | more

    def run(self, *words: str, text: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "eventbus", *words],
            cwd=self.folder,
            env=self.environment(**environment),
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "eventbus", *words],
            cwd=self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture(scope="session")
def broker() -> Iterator[LocalBroker]:
    with LocalBroker() as broker:
        yield broker
