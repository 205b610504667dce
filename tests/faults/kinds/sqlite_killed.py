"""A bus in one file: its processes are killed, at any moment and at chosen statements of their transactions."""

from __future__ import annotations

import time
from typing import ClassVar

from tests.faults.fault import Load
from tests.faults.kinds.programs import WorkerKilled
from tests.faults.kinds.sqlite import FileFault
from tests.faults.oracle import Verdict
from tests.faults.processes import Process
from tests.faults.run import Run, Side, wait_for

DYING = "tests.faults.programs.dying:at_statement"


class Killed(FileFault):
    """One process after the other is killed, at a moment or at a statement that chance has chosen."""

    kind: ClassVar[str]
    rounds: ClassVar[int]
    statements: ClassVar[tuple[str, ...]]
    """Beginnings of the statements at which they die, by themselves."""
    moments: ClassVar[tuple[str, ...]] = ("before", "after")
    by_themselves: ClassVar[float] = 0.6
    """The part of them that dies so; the others are killed at some time."""

    def inject(self, run: Run) -> None:
        self.inside = 0
        for _ in range(self.rounds):
            victims = {name: self._victim(run, side) for name, side in run.sides.items()}
            for name, (process, by_itself) in victims.items():
                self._end(run, run.sides[name], process, by_itself)
                self.inside += by_itself

    def _victim(self, run: Run, side: Side) -> tuple[Process, bool]:
        chance = run.random
        by_itself = chance.random() < self.by_themselves
        plan = [chance.choice(self.statements), chance.randint(1, 30), chance.choice(self.moments)]
        process = run.start(self.kind, side, die=plan if by_itself else None)
        run.killed.add(process.pid)
        return process, by_itself

    def _end(self, run: Run, side: Side, process: Process, by_itself: bool) -> None:
        if by_itself:
            wait_for(lambda: not process.alive, 20, f"{side.name}: {process.name} to die by itself", every=0.02)
            process.reap(1.0)
            return
        wait_for(lambda: run.is_ready(process, side), 40, f"{side.name}: {process.name} to be ready")
        time.sleep(run.random.uniform(0.0, 0.3))
        process.kill()

    def settle(self, run: Run) -> None:
        """Also what the dead have handled and not acked comes again, once they are found dead."""
        super().settle(run)
        run.stop_publishers()
        queues = [run.queue(side, group) for side in run.sides for group in run.load.groups]
        wait_for(lambda: not any(run.site.ready(queue) for queue in queues), self.settle_seconds, "empty queues")

    def witness(self, run: Run) -> None:
        accidents = sum(len(side.log.poll().facts("accident")) for side in run.sides.values())
        run.must(accidents == self.inside, f"{accidents} of {self.inside} have died at a statement")
        run.must(len(run.killed) >= self.rounds * len(run.sides), f"only {len(run.killed)} were killed")


class WorkersKilled(Killed):
    """S1: SIGKILL of workers, also inside of the transactions that claim, settle and renew."""

    name, title = "sqlite-workers-killed", "file: 52 workers killed, 3 of 5 within a transaction"
    load = Load(rate=120)
    url_options: ClassVar = {"lease": 3}
    worker_hooks = (DYING,)
    kind = "worker"
    rounds = 26
    repeats = 4
    statements = (
        "BEGIN",
        "INSERT INTO held",
        "DELETE FROM ready",
        "DELETE FROM messages",
        "DELETE FROM held",
        "COMMIT",
    )
    resends = False
    ordered = False  # those that die share the work with one that lives


class FewWorkersKilled(WorkersKilled):
    """The same in short."""

    name, title = "sqlite-few-workers-killed", "file: 6 workers killed"
    rounds = 3


class PublishersKilled(Killed):
    """S2: SIGKILL of publishers, also between the rows of a message and around the commit."""

    name, title = "sqlite-publishers-killed", "file: 24 publishers killed, 3 of 5 within a transaction"
    load = Load(rate=300, hooks=(DYING,))
    kind = "publisher"
    rounds = 12
    repeats = 3
    statements: ClassVar[tuple[str, ...]] = ("BEGIN", "INSERT INTO messages", "INSERT INTO ready", "COMMIT")
    losses = False
    resends = False

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        super().check(run, side, verdict)
        if not side.log.confirmed():
            verdict.says("stuck", "nothing was confirmed")


class FewPublishersKilled(PublishersKilled):
    """The same in short, for negative controls."""

    name, title = "sqlite-few-publishers-killed", "file: 8 publishers killed right before a commit"
    rounds = 4
    statements: ClassVar[tuple[str, ...]] = ("COMMIT",)
    moments: ClassVar[tuple[str, ...]] = ("before",)
    by_themselves = 1.0


class WorkerKilledAlone(FileFault, WorkerKilled):
    """S1: the only worker dies after a handler, before the ack; the next one has what it held, and is told so."""

    name, title = "sqlite-worker-killed-before-ack", "file: the only worker killed after the handler, before the ack"
    where = "after"
    repeats = 2

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        WorkerKilled.check(self, run, side, verdict)
        super().check(run, side, verdict)
