"""What handlers do and meet: failures, memory that runs out, long work, poison."""

from __future__ import annotations

from typing import Any

import pika

from tests.faults.fault import Fault, Load
from tests.faults.oracle import Verdict
from tests.faults.run import Run, Side, wait_for

EVENTS = "eventbus.events"


class OutOfMemory(Fault):
    """A handler asks for more memory than the process may have; the message is tried again, and no other suffers."""

    name, title = "worker-out-of-memory", "worker out of memory (RLIMIT_AS)"
    load = Load(hoard=True, rate=60)
    worker_hooks = ("tests.faults.programs.worker:limit_memory",)
    repeats = 2
    exit_codes = (0, 1, 3, -6, -9, -11)

    def inject(self, run: Run) -> None:
        def hoarded(side: Side) -> bool:
            self._keep(run, side)
            return len(side.log.poll().facts("hoarded")) >= 3

        run.until(hoarded, 40, "workers to run out of memory")

    @staticmethod
    def _keep(run: Run, side: Side) -> None:
        """Start it again where it has died of it, as a service manager does."""
        if not side.worker.alive:
            run.killed.add(side.worker.pid)
            side.worker.reap(1.0)
            run.start("worker", side)

    def witness(self, run: Run) -> None:
        for side in run.sides.values():
            run.must(len(side.log.facts("hoarded")) >= 3, f"{side.name}: there was memory enough")

    def heal(self, run: Run) -> None:
        run.mark_healed()
        for side in run.sides.values():
            self._keep(run, side)


class Failing(Fault):
    """R24: handlers fail; each failure is one attempt, counted, and the message comes again after its delay."""

    name, title = "failing-handlers", "handlers that fail twice"
    load = Load(fails=5, rate=60)
    losses = False
    resends = False
    ordered = False

    def inject(self, run: Run) -> None:
        run.flow(40)

    def witness(self, run: Run) -> None:
        for side in run.sides.values():
            failed = [a for them in side.log.arrivals["parallel"].values() for a in them if a.end and not a.ok]
            run.must(len(failed) >= 5, f"{side.name}: only {len(failed)} handlers failed")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        for id_, arrivals in side.log.arrivals["parallel"].items():
            attempts = sorted(a.fact["attempt"] for a in arrivals)
            wanted = [1, 2, 3] if side.log.attempts[id_].seq % run.load.fails == 0 else [1]
            if attempts != wanted:
                verdict.says("attempts", f"{id_} was attempted as {attempts}, not {wanted}")


class LongHandlers(Fault):
    """R1, F1: handlers that take many heartbeats cost no connection, so that nothing is handled twice."""

    name, title = "long-handlers", "handlers that take 3 heartbeats and more"
    load = Load(rate=30)
    losses = False
    resends = False
    repeats = 2
    quiet_seconds = 40.0

    def inject(self, run: Run) -> None:
        long = 4 * run.load.heartbeat + 1.0
        for side in run.sides.values():
            side.worker.tell(f"work {long}")
        run.until(lambda s: self._taking(s, long), 4 * long, "a long handler to end")
        for side in run.sides.values():
            side.worker.tell("work 0.002")

    @staticmethod
    def _taking(side: Side, long: float) -> bool:
        spans = [a.end - a.t for them in side.log.poll().arrivals["parallel"].values() for a in them if a.end]
        return max(spans, default=0.0) >= 0.95 * long

    def witness(self, run: Run) -> None:
        for side in run.sides.values():
            run.must(self._taking(side, 3 * run.load.heartbeat), f"{side.name}: no handler took long")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        if lost := run.lost_connections(side, "worker"):
            verdict.says("connection", f"the worker lost its connection {lost} times")


def nested(depth: int) -> dict[str, Any]:
    """A header table within a header table, and so on."""
    table: dict[str, Any] = {}
    for _ in range(depth):
        table = {"a": table}
    return table


POISON: tuple[tuple[bytes, dict[str, Any]], ...] = (
    (b"[", {}),
    (b"\xff\xfe\x00", {}),
    (b'{"id": 5}', {}),
    (b"[" * 100_000, {}),
    (b'{"id": "x", "side": "s", "key": "k", "seq": "not a number"}', {}),
    (b"{}", {"headers": nested(200)}),
    (b"{}", {"content_type": "application/x-unknown"}),
)


class Poisoned(Fault):
    """R25: bodies and headers that cannot be read; each is dead-lettered, and no neighbour suffers."""

    name, title = "poison", "poison messages between good ones"
    losses = False
    resends = False

    def inject(self, run: Run) -> None:
        with run.site.channel() as channel:
            for body, properties in POISON:
                for side in run.sides:
                    channel.basic_publish(EVENTS, f"step.{side}", body, pika.BasicProperties(**properties))
                run.flow(5)

    def witness(self, run: Run) -> None:
        for side in run.sides:
            queue = run.queue(side, "parallel")
            with run.site.channel() as channel:
                run.must(channel.queue_declare(queue, passive=True).method.consumer_count == 1, "nobody consumes")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        for group in run.load.groups:
            queue = run.queue(side.name, group) + ".dead"
            try:
                wait_for(lambda q=queue: run.site.ready(q) >= len(POISON), 3, "the dead letters")  # type: ignore[misc]
            except AssertionError:
                pass
            found = run.site.take(queue)
            if len(found) != len(POISON):
                verdict.says("dead letters", f"{len(found)} are in {queue}, {len(POISON)} belong there")
            for properties, body in found:
                reason = reason_of(properties.headers or {})
                if reason in ("", "delivery_limit"):
                    verdict.says("dead letters", f"{body[:20]!r} was dead-lettered for {reason or 'no reason'!r}")


def reason_of(headers: dict[str, Any]) -> str:
    """Why a message is where it is: as we say, or as the broker does."""
    ours = headers.get("eventbus-dead-reason")
    if ours:
        return str(ours)
    deaths = headers.get("x-death") or [{}]
    return str(deaths[0].get("reason", "") if isinstance(deaths[0], dict) else "")


class SlowAcks(Fault):
    """R27: a delivery takes longer than the broker allows; the channel goes, and the worker notices."""

    name, title = "ack-timeout", "delivery acknowledgement timeout of the broker"
    node = "mortal"
    repeats = 2
    resends = False

    def prepare(self, run: Run) -> None:
        for setting in ("consumer_timeout, 2000", "channel_tick_interval, 500"):
            run.node.ctl("eval", f"application:set_env(rabbit, {setting}).")

    def inject(self, run: Run) -> None:
        for side in run.sides.values():
            side.worker.tell("work 5")
        run.until(lambda s: self._lost(run, s), 30, "the broker to lose patience")
        for side in run.sides.values():
            side.worker.tell("work 0.002")

    def witness(self, run: Run) -> None:
        run.logged("delivery acknowledgement on channel", len(run.sides))

    @staticmethod
    def _lost(run: Run, side: Side) -> bool:
        return any("waiting" in f["consumers"].values() for f in run.health(side, side.worker))

    def undo(self, run: Run) -> None:
        for setting in ("consumer_timeout, 1800000", "channel_tick_interval, 60000"):
            run.node.ctl("eval", f"application:set_env(rabbit, {setting}).")
