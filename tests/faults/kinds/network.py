"""What a network does to connections, by way of the proxy."""

from __future__ import annotations

import time

from tests.faults.fault import Fault, Load
from tests.faults.oracle import Verdict
from tests.faults.proxy import Proxy
from tests.faults.run import Run, Side, wait_for

CONNECTIONS = 3
"""Of one side: the publisher's one, and the two of its worker, which publishes copies on its second one."""


class Networked(Fault):
    """A fault of the way between programs and broker."""

    proxied = True

    def proxy(self, run: Run) -> Proxy:
        """The proxy of the run."""
        assert run.proxy is not None
        return run.proxy

    def heal(self, run: Run) -> None:
        self.proxy(run).heal()
        if run.healed is None:
            run.mark_healed()


class CutInFrame(Networked):
    """R18: connections are reset in the middle of frames, at random places."""

    name, title = "cut-in-frame", "TCP cut in the middle of a frame"
    nothing_unknown = True
    load = Load(size=300)

    def inject(self, run: Run) -> None:
        for _ in range(4):
            before = self.proxy(run).counts["cut in frame"]
            self.proxy(run).cut(2)
            wait_for(lambda b=before: self.proxy(run).counts["cut in frame"] >= b + 2, 20, "two cuts")  # type: ignore[misc]
            run.flow(10, 40)

    def witness(self, run: Run) -> None:
        cut = self.proxy(run).counts["cut in frame"]
        run.must(cut >= 8, f"{cut} connections were cut in a frame, 8 were meant to be")


class BlackHole(Networked):
    """R17: nothing passes any more, and nobody is told."""

    name, title = "black-hole", "TCP black-holed"
    nothing_unknown = True
    repeats = 2

    def inject(self, run: Run) -> None:
        self.proxy(run).fall_silent()
        time.sleep(3 * run.load.heartbeat + run.random.uniform(0.0, 2.0))

    def witness(self, run: Run) -> None:
        silenced = self.proxy(run).counts["silenced"]
        run.must(silenced >= 2 * len(run.sides), f"only {silenced} streams had anything to say into the silence")


class OneWay(Networked):
    """R17: only what the broker says is lost; it goes on to take what it is sent."""

    name, title = "one-way", "TCP black-holed in one direction"
    nothing_unknown = True
    repeats = 2

    def inject(self, run: Run) -> None:
        self.proxy(run).fall_silent("down")
        time.sleep(2 * run.load.heartbeat + run.random.uniform(0.0, 2.0))

    def witness(self, run: Run) -> None:
        run.must(self.proxy(run).counts["silenced"] >= len(run.sides), "the broker had nothing to say")


class HalfOpen(Networked):
    """R17: the broker's half is gone, ours is open and silent; only heartbeats can tell."""

    name, title = "half-open", "TCP half-open"
    nothing_unknown = True
    repeats = 2
    load = Load(timeout=40.0)

    def inject(self, run: Run) -> None:
        run.mark_healed()  # from here on everything is up to the buses
        self.left = self.proxy(run).leave_half_open()
        run.until(
            lambda s: run.lost_connections(s, "publisher") and run.lost_connections(s, "worker") >= 1,
            35, "the silence to be noticed",
        )  # fmt: skip

    def witness(self, run: Run) -> None:
        run.must(self.left >= CONNECTIONS * len(run.sides), f"{self.left} connections were left half open")


class Slow(Networked):
    """R19: a thousand bytes a second."""

    name, title = "slow-link", "TCP slowed to 1 kB/s"
    nothing_unknown = True
    repeats = 2
    rate = 1000.0
    load = Load(timeout=30.0, size=200)
    memory = 64 * 2**20

    def inject(self, run: Run) -> None:
        self.proxy(run).slow(self.rate)
        self.began = time.monotonic()
        time.sleep(6.0)

    def witness(self, run: Run) -> None:
        seconds = time.monotonic() - self.began
        passed = self.proxy(run).counts["slowed"]
        most = self.rate * seconds * 2 * (len(self.proxy(run).pairs) + 2)
        run.must(1000 < passed < most, f"{passed} bytes passed in {seconds:.1f} s")


class Refused(Networked):
    """R20: connections are reset as soon as they are open; the buses come back in good order and not in a storm."""

    name, title = "reconnect-storm", "every connection reset for 6 s"
    nothing_unknown = True
    repeats = 2
    seconds = 6.0

    def inject(self, run: Run) -> None:
        self.proxy(run).refuse()
        time.sleep(self.seconds)
        self.refused = self.proxy(run).counts["refused"]

    def witness(self, run: Run) -> None:
        run.must(self.refused >= CONNECTIONS * len(run.sides), f"{self.refused} connections were refused")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        most = 20 * CONNECTIONS * len(run.sides)
        if self.refused > most:
            verdict.says("storm", f"{self.refused} attempts to connect in {self.seconds:g} s")
