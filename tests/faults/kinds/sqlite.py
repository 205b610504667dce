"""A bus in one file: its processes stand still, crowd, take long and have their clocks set. There is no broker."""

from __future__ import annotations

import signal
import time
from typing import ClassVar

from tests.faults.fault import Fault, Load
from tests.faults.files import FileSite, Watching
from tests.faults.kinds.handlers import LongHandlers
from tests.faults.kinds.programs import Terminated
from tests.faults.kinds.surroundings import HOUR, ClockJumps
from tests.faults.oracle import Verdict
from tests.faults.processes import Process
from tests.faults.run import Run, Side, wait_for


def file_of(run: Run) -> FileSite:
    """The bus file of a run."""
    assert isinstance(run.site, FileSite)
    return run.site


class FileFault(Fault):
    """A fault of a bus file, which must be sound afterwards, whatever happened."""

    node = "file"

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        for what in file_of(run).sound():
            verdict.says("file", what)


class FrozenPastLease(FileFault):
    """S3: a worker stands still past its lease: what it held is handled elsewhere, and its late acks are refused."""

    name, title = "sqlite-worker-frozen", "file: worker stopped past its lease, then continued"
    load = Load(work=0.3, rate=12, groups=("parallel",), lanes=("one", "pipe"))
    url_options: ClassVar = {"lease": 2}
    repeats = 2
    resends = False

    def inject(self, run: Run) -> None:
        self.frozen: dict[str, Process] = {}
        self.at: dict[str, float] = {}
        for name, side in run.sides.items():
            self.frozen[name] = side.worker
            run.restart("worker", side)
        run.flow(run.random.randint(5, 15))
        for name, side in run.sides.items():
            self._stop(run, side, self.frozen[name])
            self.at[name] = time.monotonic()
        wait_for(lambda: not self._sessions(run), 30, "the sessions of those that stand still to end")
        run.flow(10)
        for process in self.frozen.values():
            process.send(signal.SIGCONT)
        run.mark_healed()
        run.until(
            lambda s: not self._busy(s, self.frozen[s.name].pid, before=self.at[s.name]), 20, "its handlers to end"
        )

    def _stop(self, run: Run, side: Side, process: Process) -> None:
        """In a handler that will end some time after it goes on: when its session has long been lost."""
        process.tell("work 6")
        began = time.monotonic() + 0.3
        wait_for(lambda: self._busy(side, process.pid, after=began), 20, "a long handler to run", every=0.01)
        process.send(signal.SIGSTOP)
        process.tell("work 0.3")

    @staticmethod
    def _busy(side: Side, pid: int, after: float = 0.0, before: float = float("inf")) -> bool:
        arrivals = side.log.poll().arrivals["parallel"].values()
        return any(a.pid == pid and a.end is None and after <= a.t <= before for them in arrivals for a in them)

    def _sessions(self, run: Run) -> int:
        pids = ", ".join(str(process.pid) for process in self.frozen.values())
        with file_of(run).sql() as connection:
            (count,) = connection.execute(f"SELECT count(*) FROM sessions WHERE pid IN ({pids})").fetchone()
        return int(count)

    def _refused(self, run: Run, side: Side) -> int:
        return max((fact["stale"] for fact in run.health(side, self.frozen[side.name])), default=0)

    def witness(self, run: Run) -> None:
        for side in run.sides.values():
            run.must(self._under_way(side), f"{side.name}: it stood still with nothing under way")

    def _under_way(self, side: Side) -> list[str]:
        """What it had begun and not ended when it was stopped."""
        pid, at = self.frozen[side.name].pid, self.at[side.name]
        found = side.log.poll().arrivals["parallel"]
        return [i for i, them in found.items() for a in them if a.pid == pid and a.t <= at and (a.end or at) >= at]

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        super().check(run, side, verdict)
        pid = self.frozen[side.name].pid
        for id_ in self._under_way(side):
            elsewhere = [a for a in side.log.arrivals["parallel"][id_] if a.pid != pid]
            if not any(a.fact["redelivered"] for a in elsewhere):
                verdict.says("stale ack", f"{id_} was not handed out again when the lease was over")
        if not self._refused(run, side):
            verdict.says("stale ack", "nothing of what came too late was refused")


class Crowd(FileFault):
    """S4: eight publishers and eight workers on one file, each with several threads or tasks that claim and publish."""

    name, title = "sqlite-crowd", "file: 8 publishers and 8 workers at once"
    load = Load(rate=50, concurrency=4, prefetch=10)
    repeats = 2
    nothing_unknown = True
    losses = False
    resends = False
    ordered = False
    more: ClassVar[int] = 3
    messages: ClassVar[int] = 700

    def inject(self, run: Run) -> None:
        with Watching(file_of(run)) as self.watching:
            for side in run.sides.values():
                for kind in ("worker", "publisher"):
                    for _ in range(self.more):
                        run.start(kind, side)
            run.flow(self.messages, 90)

    def witness(self, run: Run) -> None:
        run.must(self.watching.looks >= 20, f"the file was looked at {self.watching.looks} times")
        run.must(self.watching.most_held >= 10, f"at most {self.watching.most_held} were held")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        super().check(run, side, verdict)
        for text in self.watching.found[:5]:
            verdict.says("claims", text)
        for log in side.folder.glob("*.log"):
            if "locked" in log.read_text(errors="replace"):
                verdict.says("locked", f"{log.name} tells of a lock")
        for kind in ("worker", "publisher"):
            if lost := run.lost_connections(side, kind):
                verdict.says("connection", f"the {kind}s lost their session {lost} times")


class SmallCrowd(Crowd):
    """The same in small, for negative controls."""

    name, title = "sqlite-small-crowd", "file: 4 publishers and 4 workers at once"
    more = 1
    messages = 150


class FileTerminated(FileFault, Terminated):
    """SIGTERM under load: what runs is finished and acked, the rest goes back, and nothing comes twice."""

    name, title = "sqlite-sigterm", "file: SIGTERM to a consumer under load"
    repeats = 2


class LongerThanLease(FileFault, LongHandlers):
    """S3: handlers that take several leases; a process that lives renews its own, so that nothing is handled twice."""

    name, title = "sqlite-long-handlers", "file: handlers that take 3 leases and more"
    load = Load(rate=30, heartbeat=1)
    url_options: ClassVar = {"lease": 1.5}
    repeats = 1

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        LongHandlers.check(self, run, side, verdict)
        super().check(run, side, verdict)


class FileClock(FileFault, ClockJumps):
    """S9: the clock of one worker is an hour ahead, then an hour behind; the other one and the publisher go right."""

    name, title = "sqlite-clock", "file: one worker's clock set an hour forth and back"
    url_options: ClassVar = {"lease": 3}
    ordered = False

    def inject(self, run: Run) -> None:
        """The worker and the publisher that are there have the moving clock; a second worker has not."""
        moving = dict(run.environment)
        run.environment.clear()
        try:
            for side in run.sides.values():
                run.restart("worker", side)
        finally:
            run.environment.update(moving)
        self.seen = []
        with Watching(file_of(run)) as self.watching:
            for shift in (HOUR, -HOUR, 0):
                self._set(shift)
                run.flow(run.random.randint(40, 80))
                self._look(run, shift)

    def _look(self, run: Run, shift: int) -> None:
        """Ask those with the moving clock for the time, and the others too."""
        for side in run.sides.values():
            for process, off in ((side.workers[0], shift), (side.workers[1], 0)):
                known = len(side.log.poll().facts("state", when="told"))
                process.tell("tell")
                wait_for(lambda s=side, k=known: len(s.log.poll().facts("state", when="told")) > k, 10, "the time")  # type: ignore[misc]
                self.seen.append(side.log.facts("state", when="told")[-1]["wall"] - time.time() - off)

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        ClockJumps.check(self, run, side, verdict)
        super().check(run, side, verdict)
        for text in self.watching.found[:5]:
            verdict.says("claims", text)
