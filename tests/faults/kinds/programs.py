"""Accidents of the programs themselves: killed, stopped, frozen, asked while they go."""

from __future__ import annotations

import signal
import time
from typing import Any, ClassVar

from tests.faults.fault import Fault, Load
from tests.faults.oracle import Verdict
from tests.faults.processes import Process, together
from tests.faults.run import Run, Side, wait_for


class PublisherKilled(Fault):
    """R6: SIGKILL between publish and confirm; what was confirmed before is handled."""

    name, title = "publisher-killed", "publisher killed between publish and confirm"
    load = Load(rate=900)
    losses = False
    resends = False

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(50, 200))
        for side in run.sides.values():
            run.kill(side.publisher)

    def witness(self, run: Run) -> None:
        for side in run.sides.values():
            open_ = [a for a in side.log.poll().attempts.values() if a.outcome is None and a.pid in run.killed]
            run.must(open_, f"{side.name}: nothing was under way when the publisher was killed")

    def heal(self, run: Run) -> None:
        run.mark_healed()
        for side in run.sides.values():
            run.start("publisher", side)


class WorkerKilled(Fault):
    """R4: SIGKILL in a handler; the message comes again."""

    name, title = "worker-killed-in-handler", "consumer killed in a handler"
    resends = False
    where: ClassVar[str] = "in"

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 60))
        for side in run.sides.values():
            side.worker.tell(f"accident {self.where}")
        run.until(lambda s: s.log.poll().facts("accident"), 30, "the accident")
        for side in run.sides.values():
            run.killed.add(side.worker.pid)
            side.worker.reap(5.0)

    def witness(self, run: Run) -> None:
        for side in run.sides.values():
            run.must(side.log.facts("accident", where=self.where), f"{side.name}: nobody was killed")

    def heal(self, run: Run) -> None:
        run.mark_healed()
        for side in run.sides.values():
            run.start("worker", side)

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        """The very message of the accident: handled by the next worker, and said to be redelivered."""
        at = side.log.facts("accident")[0]["t"]
        before = [(i, a) for i, them in side.log.arrivals["parallel"].items() for a in them if a.t <= at]
        last, _ = max(before, key=lambda pair: pair[1].t)
        again = [a for a in side.log.arrivals["parallel"][last] if a.t > at]
        if not again:
            verdict.says("lost", f"{last}, which was being handled, did not come again")
        elif not all(a.fact["redelivered"] for a in again):
            verdict.says("unflagged", f"{last} came again as if it were the first time")


class WorkerKilledAfter(WorkerKilled):
    """R4: SIGKILL after the handler and before its ack; the message comes again, and says so."""

    name, title = "worker-killed-before-ack", "consumer killed after the handler, before the ack"
    where = "after"


class WorkerFrozen(Fault):
    """R5: the worker sleeps until the broker has given it up; its late acks are dropped, never sent."""

    name, title = "worker-frozen", "consumer stopped for longer than its heartbeats"
    load = Load(work=0.02, rate=30)
    resends = False
    repeats = 2

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 20))
        for side in run.sides.values():
            side.worker.send(signal.SIGSTOP)
        wait_for(lambda: self._given_up(run) >= 2 * len(run.sides), 40, "the broker to give the workers up")
        for side in run.sides.values():
            side.worker.send(signal.SIGCONT)

    @staticmethod
    def _given_up(run: Run) -> int:
        return run.broker_log().count("missed heartbeats from client")

    def witness(self, run: Run) -> None:
        run.must(self._given_up(run) >= 2 * len(run.sides), "the broker has waited for them")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        if "unknown delivery tag" in run.broker_log():
            verdict.says("stale ack", "the broker was sent a delivery tag that it does not know")


class Terminated(Fault):
    """R33: SIGTERM under load; what runs is finished and acked, the rest goes back, and nothing comes twice."""

    name, title = "sigterm-under-load", "SIGTERM to a consumer under load"
    load = Load(work=0.02, rate=40)
    losses = False
    resends = False
    ordered = False  # the old worker's last ones and the new worker's first ones overlap

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 30))
        for side in run.sides.values():
            run.start("worker", side)
        together(Process.terminate, [side.workers[0] for side in run.sides.values()])

    def witness(self, run: Run) -> None:
        for side in run.sides.values():
            run.must(not side.workers[0].alive, f"{side.name}: the worker runs on")
            handled = [a for them in side.log.poll().arrivals["parallel"].values() for a in them]
            run.must(any(a.pid == side.workers[0].pid for a in handled), "it had nothing to do")


class Asking(Fault):
    """R36: requests under way when responders and connections go; each has one outcome."""

    name, title = "requests", "requests while connections are closed and the responder is killed"
    load = Load(ask=True, rate=60, timeout=4.0)

    def inject(self, run: Run) -> None:
        run.until(lambda s: len(s.log.poll().facts("answer", outcome="reply")) >= 5, 30, "replies")
        run.site.close_connections("", least=3 * len(run.sides))
        run.until(lambda s: len(self._later(s)) >= 3, 30, "replies after the connections were closed")
        for side in run.sides.values():
            run.kill(side.worker)
        run.until(lambda s: self._failed(s), 30, "requests without a responder to end")
        for side in run.sides.values():
            run.start("worker", side)
        self.again = time.monotonic()

    @staticmethod
    def _failed(side: Side) -> list[dict[str, Any]]:
        return [fact for fact in side.log.poll().facts("answer") if fact["outcome"] != "reply"]

    @staticmethod
    def _later(side: Side) -> list[dict[str, Any]]:
        return side.log.poll().facts("answer", outcome="reply")[5:]

    def witness(self, run: Run) -> None:
        for side in run.sides.values():
            run.must(self._failed(side), f"{side.name}: every request was answered")

    def heal(self, run: Run) -> None:
        run.mark_healed()
        run.until(
            lambda s: any(f["t"] > self.again for f in s.log.poll().facts("answer", outcome="reply")), 30, "replies"
        )

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        wrong = {f.get("error") for f in self._failed(side)} - {
            "NoResponder", "RequestTimeout", "RequestLost", "NotSent", "PublishUnknown",
        }  # fmt: skip
        if wrong:
            verdict.says("untrue", f"requests ended by {sorted(map(str, wrong))}")
