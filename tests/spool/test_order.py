"""Whatever happens: no event is lost, none overtakes another of its bus, none comes twice without a doubt."""

from __future__ import annotations

import random

import pytest

from eventbus import Rejected
from eventbus._spool import _carrying, _core
from eventbus._spool._line import Mode
from tests.spool.simulation import LOST, Broker, Clock, Depot, SimulatedBus

STEPS = 400


class World:
    """Buses that share a spool and a broker, and a chance that decides what happens next."""

    def __init__(self, clock: Clock, seed: int, buses: int) -> None:
        self.chance = random.Random(seed)
        self.clock = clock
        self.broker = Broker()
        self.depot = Depot("spool")
        self.buses = [SimulatedBus(clock, self.depot, self.broker, f"b{number}") for number in range(buses)]
        # A calm world, or one in which much goes wrong.
        self.trouble = self.chance.choice([0.02, 0.1, 0.3])

    def step(self) -> None:
        """One thing happens."""
        bus, chance = self.chance.choice(self.buses), self.chance
        if chance.random() < 0.05:
            self.calm(chance.randint(1, 10))
            return
        main, depot = bus.main, bus.depot_link
        if chance.random() < self.trouble:
            kinds = [main.lose, main.connect, main.connect, main.connect, main.fail, main.block, main.unblock]
            chance.choice(
                [*kinds, lambda: depot.drop(LOST), lambda: self.clock.advance(chance.choice([0.3, 2, 7, 12]))]
            )()
            return
        most = chance.randint(1, 5)
        kind = chance.randrange(9)
        if kind <= 1:
            for _ in range(most):
                refusals = [Rejected("full")] * chance.randint(1, 3) if chance.random() < 0.02 else []
                bus.emit(chance.choice([10.0, 10.0, 10.0, 3.0, 0.5]), *refusals)
        elif kind == 2:
            self.clock.advance(chance.random() * 0.05)
        else:
            [main.tell, main.sweep, lambda: main.write(most), lambda: main.receive(most), lambda: main.answer(most),
             lambda: depot.commit(most), depot.deliver][kind - 3 if kind < 9 else 6]()  # fmt: skip
            if chance.random() < 0.5:
                depot.deliver()

    def settle(self) -> None:
        """All is well again: until nothing is left to do."""
        for bus in self.buses:
            bus.main.connect()
            bus.main.unblock()
        for _ in range(20_000):
            busy = self.calm(1)
            if not busy and not self.depot.ready and all(bus._line.mode is Mode.DIRECT for bus in self.buses):
                self.clock.advance(11)  # everybody has counted since
                return
            self.clock.advance(0.05)
            for bus in self.buses:
                bus.main.sweep()
        raise AssertionError(f"never at rest: {[bus.health() for bus in self.buses]}")

    def calm(self, rounds: int) -> bool:
        """Everything goes on; gives whether there was anything to do."""
        busy = False
        for bus in self.buses * rounds:
            busy = busy or bus.main.busy() or bus.depot_link.busy()
            bus.main.tell()
            bus.main.write(9)
            bus.main.receive(9)
            bus.main.answer(9)
            bus.depot_link.commit(9)
            for _ in range(3):
                bus.depot_link.deliver()
        return busy

    def check(self) -> None:
        """The promises."""
        doubtful = {id for bus in self.buses for id in bus.doubtful(shared=len(self.buses) > 1)}
        first = list(dict.fromkeys(self.broker.log))
        for bus in self.buses:
            assert set(bus.outcomes) == set(bus.published), "every publish has an outcome"
            failed = {id for id, error in bus.outcomes.items() if error is not None}
            assert failed <= bus.refused, "the spool takes what the broker does not"
            # What the broker refused for a while comes later than what was on its way behind it.
            sent = [id for id in first if id.startswith(bus.name + ":") and id not in bus.refused]
            assert sent == [id for id in bus.published if id not in bus.refused], "in order, none lost"
            assert bus.refused - failed <= {*first, *self.depot.dead}, "what the spool took is sent, or set aside"
            assert bus.health().messages == 0, "health has no wrong number at rest"
        twice = {id for id in self.broker.log if self.broker.log.count(id) > 1}
        assert twice <= doubtful, "twice only where an outcome was unknown"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (_core, _carrying):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.mark.parametrize("seed", range(40))
def test_one_bus_keeps_its_promises(clock: Clock, seed: int) -> None:
    world = World(clock, seed, 1)
    for _ in range(STEPS):
        world.step()
    world.settle()
    world.check()


@pytest.mark.parametrize("seed", range(20))
def test_three_buses_with_one_spool_keep_them(clock: Clock, seed: int) -> None:
    world = World(clock, seed, 3)
    for _ in range(2 * STEPS):
        world.step()
    world.settle()
    world.check()
