"""The broker, or a consumer, has no more room: alarms, backlogs, and closing in the middle of that."""

from __future__ import annotations

import time
from typing import ClassVar

from tests.faults.fault import Fault, Load
from tests.faults.oracle import Verdict
from tests.faults.run import Run, Side, wait_for

MIB = 2**20


class MemoryAlarm(Fault):
    """R8: the broker takes no publishes for want of memory; consumers go on, and callers are told why."""

    name, title = "memory-alarm", "memory alarm on and off"
    load = Load(timeout=2.0, window=60)
    losses = False
    resends = False
    repeats = 2
    memory = 64 * MIB
    word: ClassVar[str] = "memory"

    def raise_alarm(self, run: Run) -> None:
        """Make the broker believe that it has no more of it."""
        run.node.ctl("set_vm_memory_high_watermark", "0")

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 40))
        self.raise_alarm(run)
        run.until(lambda s: any(f["blocked"] for f in run.health(s, s.publisher)), 20, "publishers to be blocked")
        before = {name: len(side.log.poll().outcomes) for name, side in run.sides.items()}
        run.until(lambda s: len(s.log.poll().outcomes) >= before[s.name] + 20, 20, "deadlines to pass")

    def witness(self, run: Run) -> None:
        alarms = run.node.ctl("eval", "rabbit_alarm:get_alarms().")
        run.must(self.word in alarms, f"the alarms are {alarms}")

    def heal(self, run: Run) -> None:
        self.end_alarm(run)
        run.mark_healed()

    def undo(self, run: Run) -> None:
        self.end_alarm(run)

    def end_alarm(self, run: Run) -> None:
        """Give it back."""
        run.node.ctl("set_vm_memory_high_watermark", "0.4")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        texts = [fact["text"] for name in ("not_sent", "unknown") for fact in run.outcomes(side, name)]
        if not any(self.word in text for text in texts):
            verdict.says("untrue", f"nobody was told of the alarm: {texts[:2]}")
        if run.lost_connections(side, "worker"):
            verdict.says("connection", "the consumers lost their connection, which was none of their business")


class DiskAlarm(MemoryAlarm):
    """R9: the same for want of disk."""

    name, title = "disk-alarm", "disk alarm on and off"
    word = "disk"

    def raise_alarm(self, run: Run) -> None:
        run.node.ctl("set_disk_free_limit", "9000GB")

    def undo(self, run: Run) -> None:
        self.end_alarm(run)

    def end_alarm(self, run: Run) -> None:
        run.node.ctl("set_disk_free_limit", "50MB")


class StoppedInAlarm(Fault):
    """R10: everybody is asked to stop while the broker is blocked; they end in time all the same."""

    name, title = "stop-in-alarm", "SIGTERM during a memory alarm"
    load = Load(timeout=2.0, window=60, grace=3.0)
    repeats = 2

    def inject(self, run: Run) -> None:
        run.node.ctl("set_vm_memory_high_watermark", "0")
        run.until(lambda s: any(f["blocked"] for f in run.health(s, s.publisher)), 20, "publishers to be blocked")
        run.stop_workers()
        run.stop_publishers()

    def witness(self, run: Run) -> None:
        run.must("memory" in run.node.ctl("eval", "rabbit_alarm:get_alarms()."), "the alarm was off")

    def undo(self, run: Run) -> None:
        run.node.ctl("set_vm_memory_high_watermark", "0.4")

    def heal(self, run: Run) -> None:
        self.undo(run)
        run.mark_healed()
        for side in run.sides.values():
            run.restart("worker", side)
            run.start("publisher", side)


class StoppedWhileFrozen(Fault):
    """R10: the same while the broker does not answer at all."""

    name, title = "stop-while-frozen", "SIGTERM while the broker is frozen"
    load = Load(timeout=2.0, grace=3.0)
    repeats = 2

    def inject(self, run: Run) -> None:
        run.node.broker.pause()
        began = time.monotonic()
        try:
            run.stop_workers()
            run.stop_publishers()
        finally:
            run.node.broker.resume()
        self.seconds = time.monotonic() - began

    def undo(self, run: Run) -> None:
        run.node.broker.resume()

    def witness(self, run: Run) -> None:
        run.must(self.seconds > 1.0, "nobody had anything to wait for")

    def heal(self, run: Run) -> None:
        run.mark_healed()
        for side in run.sides.values():
            run.restart("worker", side)
            run.start("publisher", side)


class Backlog(Fault):
    """R22: a hundred thousand messages wait for a slow consumer, whose limits and memory hold."""

    name, title = "backlog", "100,000-message backlog with a slow consumer"
    repeats = 1
    messages: ClassVar[int] = 100_000
    load = Load(
        rate=1e9, count=messages, lanes=("pipe",), groups=("parallel",), prefetch=50, concurrency=4, work=0.05,
        window=1000, heartbeat=5,
    )  # fmt: skip
    resends = False
    losses = False
    memory = 96 * MIB
    quiet_seconds = 240.0
    poll = 1.0

    def inject(self, run: Run) -> None:
        for side in run.sides.values():
            wait_for(lambda s=side: not s.publisher.alive, 240, "all to be published", every=0.5)  # type: ignore[misc]
            side.publisher.reap(1.0)
        self.waiting = {name: len(side.log.poll().missing(run.load.groups)) for name, side in run.sides.items()}
        lines = run.node.ctl("list_channels", "-p", run.site.vhost, "messages_unacknowledged", "prefetch_count")
        self.unsettled = [int(line.split()[0]) for line in lines.splitlines() if line.split()[0].isdigit()]

    def witness(self, run: Run) -> None:
        for name, waiting in self.waiting.items():
            run.must(waiting > 0.8 * self.messages, f"{name}: only {waiting} messages wait")
        run.must(max(self.unsettled, default=0) > 0, "nobody consumes")

    def heal(self, run: Run) -> None:
        run.mark_healed()
        for side in run.sides.values():
            side.worker.tell("work 0")

    def settle(self, run: Run) -> None:
        """There is nothing fresh; all that waits is to be handled."""

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        if max(self.unsettled) > run.load.prefetch:
            verdict.says("prefetch", f"{max(self.unsettled)} were unsettled at once, {run.load.prefetch} were allowed")


class SmallBacklog(Backlog):
    """The same at a fiftieth of the size, for the short set and the negative controls."""

    name, title = "small-backlog", "2,000-message backlog with a slow consumer"
    messages = 2_000
    load = Load(
        rate=1e9, count=messages, lanes=("pipe",), groups=("parallel",), prefetch=50, concurrency=4, work=0.2,
    )  # fmt: skip
    quiet_seconds = 30.0
    poll = 0.1
