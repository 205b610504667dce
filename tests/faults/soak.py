"""Ten minutes under load with a random fault every 20 seconds: nothing lost, memory flat, nothing leaked.

``python -m tests.faults.soak --minutes 10 --seed 1``
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from tests.faults.fault import Fault, Load
from tests.faults.oracle import Verdict
from tests.faults.proxy import Proxy
from tests.faults.run import Run, Side, wait_for
from tests.faults.suite import Suite

MIB = 2**20
EVERY = 20.0
CALM = 4.0
"""Seconds from a recovery to the look at memory, threads and sockets."""


class Soak(Fault):
    """One long run. On each side a publisher and a worker live through it all; a second one of each may be killed."""

    name, title = "soak", "random faults under load"
    node = "mortal"
    proxied = True
    load = Load(rate=60.0, timeout=30.0)
    ordered = False  # several consumers share each queue
    quiet_seconds = 60.0
    poll = 0.5
    exit_codes = (0,)
    minutes: ClassVar[float] = 10.0
    growth: ClassVar[float] = 12 * MIB
    """How much the median size of a process may grow from the first third of the run to the last."""

    def inject(self, run: Run) -> None:
        self.done: Counter[str] = Counter()
        self.recoveries: list[float] = []
        run.node.broker.sync()
        for side in run.sides.values():
            run.restart("worker", side)
            run.restart("publisher", side)
        ends = time.monotonic() + 60.0 * self.minutes
        actions = self._actions(run)
        while (began := time.monotonic()) < ends:
            self._look(run)
            name = run.random.choice(sorted(actions))
            print(f"{time.strftime('%H:%M:%S')}  {name}", end="", flush=True)
            actions[name]()
            run.mark_healed()
            run.until(lambda side: run.fresh(side) >= 5, 60, "messages to flow again")
            self.recoveries.append(time.monotonic() - (run.healed or 0.0))
            self.done[name] += 1
            print(f": flows again after {self.recoveries[-1]:.1f} s", flush=True)
            time.sleep(max(CALM, began + EVERY - time.monotonic()))
        self._look(run)

    def _actions(self, run: Run) -> dict[str, Callable[[], None]]:
        assert run.proxy is not None
        proxy, node = run.proxy, run.node
        return {
            "broker killed": lambda: self._kill_broker(run),
            "broker frozen": lambda: self._frozen(run),
            "memory alarm": lambda: self._alarm(run),
            "connections closed": lambda: self._closed(run),
            "connections cut": lambda: self._cut(proxy),
            "connections reset": proxy.reset,
            "network silent": lambda: self._for_a_while(run, proxy, proxy.fall_silent),
            "network slow": lambda: self._for_a_while(run, proxy, lambda: proxy.slow(1000.0)),
            "network refuses": lambda: self._for_a_while(run, proxy, proxy.refuse),
            "worker killed": lambda: self._killed(run, "worker"),
            "publisher killed": lambda: self._killed(run, "publisher"),
            "worker stopped": lambda: self._stopped(run),
            "server restarted": lambda: (node.ctl("stop_app"), node.ctl("start_app"), None)[-1],
        }

    # -- what may happen ------------------------------------------------------------------------------------

    @staticmethod
    def _kill_broker(run: Run) -> None:
        run.node.broker.kill()
        run.node.broker.start()

    @staticmethod
    def _frozen(run: Run) -> None:
        run.node.broker.pause()
        time.sleep(run.random.uniform(1.0, 8.0))
        run.node.broker.resume()

    @staticmethod
    def _alarm(run: Run) -> None:
        run.node.ctl("set_vm_memory_high_watermark", "0")
        time.sleep(run.random.uniform(1.0, 5.0))
        run.node.ctl("set_vm_memory_high_watermark", "0.4")

    @staticmethod
    def _closed(run: Run) -> None:
        run.must(run.site.close_connections("") > 0, "nobody was connected")

    @staticmethod
    def _cut(proxy: Proxy) -> None:
        before = proxy.counts["cut in frame"]
        proxy.cut(4)
        wait_for(lambda: proxy.counts["cut in frame"] >= before + 4, 20, "four cuts")

    @staticmethod
    def _for_a_while(run: Run, proxy: Proxy, what: Callable[[], Any]) -> None:
        what()
        time.sleep(run.random.uniform(1.0, 8.0))
        proxy.heal()

    @staticmethod
    def _killed(run: Run, kind: str) -> None:
        for side in run.sides.values():
            known = side.workers if kind == "worker" else side.publishers
            run.kill(known[-1])
            run.start(kind, side)

    @staticmethod
    def _stopped(run: Run) -> None:
        for side in run.sides.values():
            side.worker.terminate()
            run.start("worker", side)

    # -- what must hold -------------------------------------------------------------------------------------

    @staticmethod
    def _look(run: Run) -> None:
        """Ask those that live through it all for their size."""
        for side in run.sides.values():
            side.workers[0].tell("tell")
            side.publishers[0].tell("tell")

    def witness(self, run: Run) -> None:
        run.must(sum(self.done.values()) >= 60.0 * self.minutes / EVERY / 3, f"only {self.done} happened")

    def undo(self, run: Run) -> None:
        run.node.broker.resume()
        run.node.broker.start()
        run.node.ctl("set_vm_memory_high_watermark", "0.4")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        for process in (side.workers[0], side.publishers[0]):
            looks = [fact for fact in side.log.facts("state", when="told") if fact["pid"] == process.pid]
            third = max(1, len(looks) // 3)
            for what, most in (("rss", self.growth), ("sockets", 0), ("threads", 2)):
                first = statistics.median(fact[what] for fact in looks[:third])
                last = statistics.median(fact[what] for fact in looks[-third:])
                verdict.counts[f"{process.kind} {what}"] = int(last)
                print(f"{side.name} {process.kind}: {what} {first:,.0f} at first, {last:,.0f} at last")
                if last > first + most:
                    verdict.says("leak", f"{process.name}: {what} grew from {first:,.0f} to {last:,.0f}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eventbus-soak-"))
    print(f"seed {given.seed}, {given.minutes:g} minutes, records: {folder}", flush=True)
    soak = Soak()
    soak.minutes = given.minutes  # type: ignore[misc]
    with Suite(folder) as suite:
        result = suite.once(soak, given.seed)
    for side, verdict in result.verdicts.items():
        print(f"{side}: {dict(+verdict.counts)}")
    if soak.recoveries:
        print(f"{sum(soak.done.values())} faults: {dict(soak.done)}")
        print(f"recovery: median {statistics.median(soak.recoveries):.1f} s, worst {max(soak.recoveries):.1f} s")
    for problem in result.problems:
        print(f"! {problem}")
    print("passed" if result.passed else f"INVALID: {result.invalid}" if result.invalid else "FAILED")
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
