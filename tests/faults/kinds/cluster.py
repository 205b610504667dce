"""A cluster of three nodes loses one, or falls into parts. Queues are quorum queues, URLs name all nodes."""

from __future__ import annotations

import time

from tests.faults.brokers import ClusterNode
from tests.faults.fault import Fault, Load
from tests.faults.oracle import longest_gap
from tests.faults.run import Run, wait_for


class Clustered(Fault):
    """A fault of one node, which the other two outlive."""

    node = "cluster"
    repeats = 2
    load = Load(timeout=25.0)
    quiet_seconds = 40.0
    redeliveries_ordered = False

    def cluster(self, run: Run) -> ClusterNode:
        """The cluster of the run."""
        assert isinstance(run.node, ClusterNode)
        return run.node

    def hosts(self, run: Run) -> str:
        return self.cluster(run).hosts()

    def victim(self, run: Run) -> int:
        """The node that leads the queues of the sync side: by default the one to suffer."""
        return self.cluster(run).leader(run.site, run.queue(next(iter(run.sides)), "parallel"))

    def inject(self, run: Run) -> None:
        cluster = self.cluster(run)
        cluster.sync()  # what is declared must be on disk before the promise begins
        self.chosen = self.victim(run)
        run.flow(run.random.randint(5, 60))
        cluster.use(cluster.others(self.chosen)[0])
        self.hurt(run)
        run.mark_healed()  # from here on the buses have two nodes, which is enough
        run.until(lambda side: run.fresh(side) >= 20, 60, "messages to flow without it")

    def hurt(self, run: Run) -> None:
        """Make the node suffer."""
        raise NotImplementedError


class LeaderKilled(Clustered):
    """C1: SIGKILL of the node that leads the queues."""

    name, title = "leader-killed", "cluster: leader's node killed"

    def hurt(self, run: Run) -> None:
        self.cluster(run).cluster.nodes[self.chosen].kill()

    def witness(self, run: Run) -> None:
        cluster = self.cluster(run)
        run.must(not cluster.cluster.nodes[self.chosen].running, "the node lives")
        run.must(
            cluster.leader(run.site, run.queue("sync", "parallel")) != self.chosen or not self.leads, "it leads still"
        )

    leads = True

    def heal(self, run: Run) -> None:
        self.undo(run)

    def undo(self, run: Run) -> None:
        cluster = self.cluster(run)
        for node in cluster.cluster.nodes:
            node.start()
        cluster.whole()


class FollowerKilled(LeaderKilled):
    """C1: SIGKILL of a node that only follows, and may have our connections."""

    name, title = "follower-killed", "cluster: another node killed"
    leads = False

    def victim(self, run: Run) -> int:
        cluster = self.cluster(run)
        leaders = {cluster.leader(run.site, run.queue(side, group)) for side in run.sides for group in run.load.groups}
        free = [n for n in range(3) if n not in leaders] or cluster.others(super().victim(run))
        return run.random.choice(free)


class LeaderFrozen(Clustered):
    """C2: the node that leads stands still for some seconds, and then goes on as if nothing had been."""

    name, title = "leader-frozen", "cluster: leader's node frozen for 8 s"
    repeats = 1

    def hurt(self, run: Run) -> None:
        node = self.cluster(run).cluster.nodes[self.chosen]
        node.pause()
        try:
            time.sleep(8.0)
        finally:
            node.resume()

    def witness(self, run: Run) -> None:
        gap = longest_gap(next(iter(run.sides.values())).log.poll())  # of the side whose leader it is
        run.must(gap > 1.0, f"confirms came at most {gap:.1f} s apart")

    def undo(self, run: Run) -> None:
        self.cluster(run).cluster.nodes[self.chosen].resume()
        self.cluster(run).whole()


class Partitioned(Clustered):
    """C5: the leader's node is parted from the others and pauses itself, being the minority; then they meet again."""

    name, title = "partition", "cluster: partition, then healed"

    def hurt(self, run: Run) -> None:
        self.cluster(run).isolate(self.chosen)

    def witness(self, run: Run) -> None:
        cluster = self.cluster(run)
        victim = cluster.cluster.nodes[self.chosen]
        run.must(len(cluster.running()) == 2, f"the others see {cluster.running()}")
        wait_for(lambda: "minority" in victim.log_text(), 30, "the node to see that it is the minority")

    def heal(self, run: Run) -> None:
        self.undo(run)

    def undo(self, run: Run) -> None:
        self.cluster(run).rejoin()
        self.cluster(run).whole()
