"""The connection goes: by the broker's death, its silence, the network, or an operator."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults.fault import Fault, Load
from tests.faults.oracle import Verdict
from tests.faults.run import Run, Side


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

    def undo(self, run: Run) -> None:
        run.node.broker.start()

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
        run.flow(run.random.randint(5, 20))
        self.closed = run.site.close_connections("", least=3 * len(run.sides))

    def witness(self, run: Run) -> None:
        run.must(self.closed >= 3 * len(run.sides), f"{self.closed} connections were closed")
        run.until(lambda s: run.lost_connections(s, "publisher") and run.lost_connections(s, "worker"), 20, "a new one")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        begun = sum(1 for one in side.log.arrivals.values() for arrivals in one.values() for a in arrivals)
        ended = sum(1 for one in side.log.arrivals.values() for arrivals in one.values() for a in arrivals if a.end)
        if begun != ended:
            verdict.says("cancelled", f"{begun - ended} handlers never came to their end")
        if "unknown delivery tag" in run.broker_log():
            verdict.says("stale ack", "the broker was sent a delivery tag that it does not know")


class BrokerFrozen(Fault):
    """R3: the node stops for three heartbeats; publishes end at their deadlines, not at a heartbeat's."""

    name, title = "broker-frozen", "broker SIGSTOP for 3 heartbeats"
    load = Load(timeout=3.0)
    repeats = 2

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 60))
        self.before = {name: len(side.log.poll().confirmed()) for name, side in run.sides.items()}
        run.node.broker.pause()
        time.sleep(3 * run.load.heartbeat + 0.5)
        self.state = Path(f"/proc/{run.node.broker.pid}/stat").read_text().rpartition(")")[2].split()[0]
        run.node.broker.resume()
        run.mark_healed()

    def undo(self, run: Run) -> None:
        run.node.broker.resume()

    def witness(self, run: Run) -> None:
        run.must(self.state == "T", f"the broker was in state {self.state}")
        run.until(lambda s: len(s.log.poll().outcomes) > len(s.log.confirmed()), 10, "deadlines to pass")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        if verdict.gap < 2 * run.load.heartbeat:
            verdict.says("false confirm", f"the longest time without a confirm was {verdict.gap:.1f} s")


class BrokerStopped(Fault):
    """R2: an operator stops the broker in good order, and starts it again."""

    name, title = "broker-stopped", "broker stopped and started in order"
    node = "mortal"
    nothing_unknown = True
    repeats = 1  # the last of its node: RabbitMQ 4.0.5 may answer 541 to every declaration after a stop and a start

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 60))
        run.node.ctl("stop_app")
        time.sleep(1.0)

    def witness(self, run: Run) -> None:
        run.must("false" in run.node.ctl("eval", "rabbit:is_running()."), "the broker runs")
        run.until(lambda s: any(f["status"] == "connecting" for f in run.health(s, s.publisher)), 10, "an outage")

    def heal(self, run: Run) -> None:
        run.node.ctl("start_app")
        run.mark_healed()

    def undo(self, run: Run) -> None:
        run.node.broker.restart()  # if it did not start well, later runs shall not suffer
