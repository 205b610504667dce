"""What a machine does to its programs: the clock is set, names are not resolved."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from tests.faults.fault import Fault, Load
from tests.faults.oracle import Verdict
from tests.faults.programs.surroundings import HOST
from tests.faults.run import Run, Side

DAY, HOUR = 86_400, 3_600


class ClockJumps(Fault):
    """R37: the time of day is set a day ahead, and an hour back; deadlines and heartbeats are of another clock.

    libfaketime 0.9.10 (Debian 12) breaks ``time.sleep`` of Python 3.11, so the shift is a few lines of C of our own.
    """

    name, title = "clock-jump", "system clock set forth and back"
    nothing_unknown = True
    losses = False
    resends = False
    repeats = 2

    def prepare(self, run: Run) -> None:
        self.file = run.folder / "clock"
        run.environment["FAULTS_CLOCK"] = str(self.file)
        compiler = shutil.which("cc")
        self.native = compiler is not None
        if compiler is None:
            run.hooks.append("tests.faults.programs.surroundings:clock")
        else:
            source, library = Path(__file__).with_name("shift_clock.c"), run.folder / "shift_clock.so"
            subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
            run.environment["LD_PRELOAD"] = str(library)
        self._set(0)

    def _set(self, seconds: int) -> None:
        data = seconds.to_bytes(8, "little", signed=True) if self.native else str(seconds).encode()
        if not self.file.exists():
            self.file.write_bytes(data)
        with self.file.open("r+b") as file:  # in place: it is mapped
            file.write(data.ljust(8) if not self.native else data)

    def inject(self, run: Run) -> None:
        self.seen: list[float] = []
        for shift in (DAY, -HOUR, 0):
            self._set(shift)
            run.flow(run.random.randint(20, 40))
            known = {s.name: len(s.log.facts("state", when="told")) for s in run.sides.values()}
            for side in run.sides.values():
                side.publisher.tell("tell")
                side.worker.tell("tell")
            run.until(lambda s, k=known: len(s.log.poll().facts("state", when="told")) >= k[s.name] + 2, 10, "the time")  # type: ignore[misc]
            for side in run.sides.values():
                self.seen += [f["wall"] - time.time() - shift for f in side.log.facts("state", when="told")[-2:]]

    def witness(self, run: Run) -> None:
        run.must(
            len(self.seen) == 12 and all(abs(error) < 60 for error in self.seen), f"the clocks were off by {self.seen}"
        )

    def heal(self, run: Run) -> None:
        run.mark_healed()

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        for kind in ("publisher", "worker"):
            if lost := run.lost_connections(side, kind):
                verdict.says("connection", f"the {kind} lost its connection {lost} times")


class NamesFail(Fault):
    """R21: the connections go while no name is resolved; found again as soon as the DNS is back."""

    name, title = "dns-fails", "DNS failing, then back"
    nothing_unknown = True
    repeats = 2
    load = Load(hooks=("tests.faults.programs.surroundings:names",))

    def prepare(self, run: Run) -> None:
        self.down = run.folder / "dns-down"
        run.environment["FAULTS_DNS_DOWN"] = str(self.down)

    def hosts(self, run: Run) -> str:
        return f"{HOST}:{run.node.broker.port}"

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 40))
        self.down.touch()
        run.site.close_connections("", least=3 * len(run.sides))
        run.until(lambda s: len(s.log.poll().facts("resolved", ok=False)) >= 4, 30, "names not to be resolved")
        run.until(lambda s: self.told(run, s), 30, "the publisher's health to say so")  # programs tell it now and then

    def told(self, run: Run, side: Side) -> bool:
        """Whether the publisher's health has named the cause."""
        return any("cannot be resolved" in str(fact["error"]) for fact in run.health(side, side.publisher))

    def witness(self, run: Run) -> None:
        for side in run.sides.values():
            told = [
                f for p in (side.publisher, side.worker) for f in run.health(side, p) if f["status"] == "connecting"
            ]
            run.must(told, f"{side.name}: nobody was without a connection")

    def heal(self, run: Run) -> None:
        self.down.unlink()
        run.mark_healed()

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        if not self.told(run, side):
            verdict.says("untrue", "nobody was told that the name is not resolved")
