from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eventbus import AsyncEventBus, EventBus
from eventbus.testing._facade import AsyncRunner, Bus, Runner, SyncRunner


class Garage:
    """Makes buses of one kind, and stops them at the end."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._buses: list[Bus] = []

    def bus(self, transport: Any, **options: Any) -> Bus:
        make = AsyncEventBus if self.runner.flavour == "async" else EventBus
        settings = {"service": "shop", "timeout": 5.0, **options}
        bus = Bus(self.runner.call(lambda: make(transport, **settings)), self.runner)
        self._buses.append(bus)
        return bus

    def close(self) -> None:
        for bus in self._buses:
            bus.stop(0.5)
        self.runner.close()


@pytest.fixture(params=["sync", "async"])
def garage(request: pytest.FixtureRequest) -> Iterator[Garage]:
    garage = Garage(AsyncRunner() if request.param == "async" else SyncRunner())
    try:
        yield garage
    finally:
        garage.close()
