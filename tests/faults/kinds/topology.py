"""Somebody changes what the buses stand on: queues, exchanges, bindings, limits."""

from __future__ import annotations

import time
from urllib.parse import quote

from tests.faults.fault import Fault, Load
from tests.faults.oracle import Verdict
from tests.faults.run import Run, Side

EVENTS = "eventbus.events"
ONE_GROUP = ("parallel",)


class BadChannel(Fault):
    """R13, R19: bad publishes close the channel that carries good ones; each has its own outcome."""

    name, title = "channel-closed", "channel closed by a bad operation beside good ones"
    nothing_unknown = True
    losses = False
    load = Load(rate=400)

    def inject(self, run: Run) -> None:
        self.bad = 0
        for number in range(3):
            exchange = f"bad-{run.seed}-{number}"
            run.site.api("PUT", f"/exchanges/{{v}}/{exchange}", {"type": "topic", "durable": False})
            self._publish(run, exchange)
            run.site.api("DELETE", f"/exchanges/{{v}}/{exchange}")
            self._publish(run, exchange)
            run.flow(10)

    def _publish(self, run: Run, exchange: str) -> None:
        self.bad += 1
        for side in run.sides.values():
            side.publisher.tell(f"bad exchange {exchange}")
        run.until(lambda s: len(s.log.poll().facts("bad")) >= self.bad, 30, "the bad publish to end")

    def witness(self, run: Run) -> None:
        run.logged("no exchange 'bad-", 3 * len(run.sides))

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        for number, fact in enumerate(side.log.facts("bad")):
            wanted = ("unroutable",) if number % 2 == 0 else ("not_sent", "unknown")
            if fact["outcome"] not in wanted or not fact["ours"] or f"bad-{run.seed}" not in fact["text"]:
                verdict.says("untrue", f"bad publish {number}: {fact['outcome']}: {fact.get('text')}")


class QueueDeleted(Fault):
    """R11: an operator deletes the queue under its consumer, which must find out and begin again."""

    name, title = "queue-deleted", "queue deleted under a consumer"
    load = Load(groups=ONE_GROUP)

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 40))
        for side in run.sides.values():
            side.publisher.tell("pause")  # what is in the queue goes with it
        run.until(run.settled, 20, "the queue to be empty")
        self.deleted = 0
        for side in run.sides.values():
            run.site.api("DELETE", f"/queues/{{v}}/{run.queue(side.name, 'parallel')}")  # an error if it is not there
            self.deleted += 1
            side.publisher.tell("resume")

    def witness(self, run: Run) -> None:
        run.must(self.deleted == len(run.sides), "the broker did not delete the queues")


class ExchangeDeleted(Fault):
    """R12: an operator deletes the exchange under its publishers, and with it all bindings."""

    name, title = "exchange-deleted", "exchange deleted under a publisher"
    load = Load(groups=ONE_GROUP)  # two are bound again one after the other

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 40))
        run.site.api("DELETE", f"/exchanges/{{v}}/{EVENTS}")
        run.until(lambda s: len(s.log.poll().outcomes) > len(s.log.confirmed()) + 5, 20, "publishes to fail")

    def witness(self, run: Run) -> None:
        run.logged("no exchange 'eventbus.events'")

    def heal(self, run: Run) -> None:
        run.site.close_connections("-worker", least=2 * len(run.sides))  # who connects anew declares all it needs
        run.mark_healed()

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        texts = {fact["text"] for name in ("not_sent", "unknown", "unroutable") for fact in run.outcomes(side, name)}
        if not texts or any(EVENTS not in text for text in texts):
            verdict.says("untrue", f"the errors do not name the exchange: {sorted(texts)[:3]}")


class Unbound(Fault):
    """R15: for a while no queue takes the messages, and every publish says so."""

    name, title = "unroutable", "binding removed and made again"
    load = Load(groups=ONE_GROUP)
    resends = False
    losses = False

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 40))
        for side in run.sides.values():
            path = f"/bindings/{{v}}/e/{EVENTS}/q/{run.queue(side.name, 'parallel')}/{quote(f'step.{side.name}')}"
            run.site.api("DELETE", path)
        time.sleep(0.5)

    def witness(self, run: Run) -> None:
        found = run.site.api("GET", f"/exchanges/{{v}}/{EVENTS}/bindings/source")
        bound = [binding for binding in found if "step." in binding["routing_key"]]
        run.must(not bound, f"{len(bound)} bindings are there still")

    def heal(self, run: Run) -> None:
        with run.site.channel() as channel:
            for side in run.sides.values():
                channel.queue_bind(run.queue(side.name, "parallel"), EVENTS, f"step.{side.name}")
        run.mark_healed()

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        if not verdict.counts["unroutable"]:
            verdict.says("false confirm", "nobody was told that no queue took the messages")


class QueueFull(Fault):
    """R14: a bounded queue refuses what does not fit, and says so for exactly that."""

    name, title = "queue-full", "queue full with reject-publish"
    load = Load(groups=ONE_GROUP, bound=20, prefetch=4, work=0.001, timeout=10)
    one_queue = True
    losses = False

    def inject(self, run: Run) -> None:
        for side in run.sides.values():
            side.worker.tell("work 0.3")
        time.sleep(1.5)

    def witness(self, run: Run) -> None:
        def full(side: Side) -> bool:
            return run.site.ready(run.queue(side.name, "parallel")) >= 20

        run.until(full, 20, "the queue to be full")
        time.sleep(0.5)

    def heal(self, run: Run) -> None:
        for side in run.sides.values():
            side.worker.tell("work 0.001")
        run.mark_healed()

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        if not verdict.counts["rejected"]:
            verdict.says("false confirm", "nobody was told that the full queue refused messages")
        if verdict.counts["unknown"] or verdict.counts["not_sent"]:
            verdict.says("untrue", "a refusal was reported as something else")


class Drifted(Fault):
    """R28: a queue exists with other properties; that concerns its subscription alone, and is said."""

    name, title = "topology-drift", "queue declared with other properties"
    load = Load(groups=ONE_GROUP)
    repeats = 2

    def inject(self, run: Run) -> None:
        for side in run.sides.values():
            side.worker.terminate()
            with run.site.channel() as channel:
                queue = run.queue(side.name, "ordered")
                channel.queue_declare(queue, durable=True, arguments={"x-max-length": 7})
            run.start("worker", side, groups=["ordered", "parallel"])
        run.until(lambda s: "parallel" in str(self._consumers(run, s)), 20, "the other subscription to run")

    @staticmethod
    def _consumers(run: Run, side: Side) -> list[str]:
        """What the newest worker has told to be ready, at any time."""
        queues = {n for f in run.health(side, side.worker) for n, phase in f["consumers"].items() if phase == "ready"}
        return sorted(queues)

    def witness(self, run: Run) -> None:
        run.logged("inequivalent arg", len(run.sides))

    def heal(self, run: Run) -> None:
        run.mark_healed()

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        name = f"{side.name}-worker.ordered"
        told = [f for f in run.health(side, side.worker) if f["consumers"].get(name) == "failed"]
        if not told or not any("other properties" in f["errors"].get(name, "") for f in told):
            verdict.says("silent", "nobody was told that the queue has other properties")
