"""The connection goes: by the broker's death, its silence, the network, or an operator."""

from __future__ import annotations

import time

from eventbus.testing import eventually
from tests.faults.harness import Fault, Load, Run, Side
from tests.faults.oracle import Verdict


class BrokerKilled(Fault):
    """R1: the node dies and comes back with what was on disk."""

    name, title = "broker-killed", "broker SIGKILL and restart"
    node = "mortal"
    nothing_unknown = True

    def inject(self, run: Run) -> None:
        run.node.broker.sync()  # what is declared must be on disk before the promise begins
        self.pid = run.node.broker.pid
        run.flow(run.random.randint(5, 60))
        run.node.broker.kill()
        time.sleep(run.random.uniform(0.1, 1.0))

    def witness(self, run: Run) -> None:
        run.must(not run.node.broker.running, "the broker lives")

    def heal(self, run: Run) -> None:
        run.node.broker.start()
        run.mark_healed()
        run.must(run.node.broker.pid != self.pid, "it is the same broker process")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        for kind in ("publisher", "worker"):
            if not run.lost_connections(side, kind):
                verdict.says("health", f"the {kind} has not told of a new connection")


class ConnectionsClosed(Fault):
    """R7: an operator closes the connections by the management API; no handler is cancelled."""

    name, title = "closed-by-operator", "connection closed by the management API"
    nothing_unknown = True
    load = Load(work=0.02, rate=40)

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 60))
        eventually(lambda: len(run.site.connections("")) >= 3 * len(run.sides), 20, what="connections to close")
        self.closed = run.site.close_connections("")

    def witness(self, run: Run) -> None:
        run.must(self.closed >= 3 * len(run.sides), f"{self.closed} connections were closed")
        run.until(lambda s: run.lost_connections(s, "publisher") and run.lost_connections(s, "worker"), 20, "a new one")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        begun = sum(1 for one in side.log.arrivals.values() for arrivals in one.values() for a in arrivals)
        ended = sum(1 for one in side.log.arrivals.values() for arrivals in one.values() for a in arrivals if a.end)
        if begun != ended:
            verdict.says("cancelled", f"{begun - ended} handlers never came to their end")
        if "unknown delivery tag" in run.node.broker.log_text():
            verdict.says("stale ack", "the broker was sent a delivery tag that it does not know")


class CutInFrame(Fault):
    """R18: the network resets connections in the middle of frames, sweeping over random places."""

    name, title = "cut-in-frame", "TCP cut in the middle of a frame"
    proxied = True
    nothing_unknown = True
    load = Load(size=300)

    def inject(self, run: Run) -> None:
        assert run.proxy is not None
        for _ in range(4):
            run.proxy.cut(2)
            run.flow(10, 40)

    def witness(self, run: Run) -> None:
        assert run.proxy is not None
        run.must(run.proxy.counts["cut in frame"] >= 4, f"{run.proxy.counts} were cut")

    def heal(self, run: Run) -> None:
        assert run.proxy is not None
        run.proxy.heal()
