"""A run of a fault: its broker, its processes, their records, and the steps that faults are made of."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.brokers import Node, Site
from tests.faults.fault import POLL, SIDES, Fault
from tests.faults.processes import Process, together
from tests.faults.proxy import Proxy
from tests.faults.records import Log


class Invalid(Exception):
    """The fault did not really happen, so the run proves nothing."""


def wait_for(check: Callable[[], Any], timeout: float, what: str, *, every: float = POLL) -> Any:
    """Until ``check`` gives something true, and that; AssertionError after ``timeout`` seconds.

    Looks less often than :func:`eventbus.testing.eventually`: a look reads records, and the load needs the processor.
    """
    until = time.monotonic() + timeout
    while not (value := check()):
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not come about within {timeout:g} s")
        time.sleep(every)
    return value


@dataclass
class Side:
    """The processes and records of the sync, or of the async, bus in a run."""

    name: str
    folder: Path
    log: Log
    publishers: list[Process] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)

    @property
    def publisher(self) -> Process:
        """The newest publisher."""
        return self.publishers[-1]

    @property
    def worker(self) -> Process:
        """The newest worker."""
        return self.workers[-1]


class Run:
    """The surroundings of a fault: broker, processes, records. Faults use it to inject, to witness and to heal."""

    def __init__(self, fault: Fault, node: Node, folder: Path, seed: int, mutant: str | None = None) -> None:
        self.fault, self.node, self.folder, self.seed = fault, node, folder, seed
        self.random = random.Random(seed)
        self.load = fault.load
        self.site: Site = node.site(fault.name)
        self.proxy: Proxy | None = None
        self.environment: dict[str, str] = {}
        mutants = "tests.faults.mutants_sqlite" if fault.node == "file" else "tests.faults.mutants"
        self.hooks = [*fault.load.hooks, *([f"{mutants}:{mutant}"] if mutant else [])]
        self.extra: dict[str, dict[str, Any]] = {"publisher": {}, "worker": {}}
        self.killed: set[int] = set()
        self.dead: dict[str, set[str]] = {name: set() for name in SIDES}
        self.healed: float | None = None
        self.secrets = [self.site.password]
        self._log_from = len(node.log_text())
        self.sides = {name: self._side(name) for name in fault.sides}

    def _side(self, name: str) -> Side:
        folder = self.folder / name
        folder.mkdir(parents=True)
        return Side(name, folder, Log(folder))

    # -- processes ------------------------------------------------------------------------------------------

    def url(self) -> str:
        """The URL that programs get."""
        host = None if self.proxy is None else f"127.0.0.1:{self.proxy.port}"
        return self.site.url(host or self.fault.hosts(self), heartbeat=self.load.heartbeat, **self.fault.url_options)

    def start(self, kind: str, side: Side, **more: Any) -> Process:
        """Start a publisher or a worker."""
        load = self.load
        known = side.publishers if kind == "publisher" else side.workers
        settings = {
            "side": side.name, "url": self.fault.url(self), "service": f"{side.name}-{kind}",
            "seed": self.random.randrange(1 << 30), "hooks": self.hooks,
            **{name: getattr(load, name) for name in (
                "rate", "count", "size", "timeout", "window", "grace", "work", "concurrency", "prefetch", "groups",
                "lanes",
                "ask", "fails", "hoard", "bound",
            )},
            **self.extra[kind],
            **more,
        }  # fmt: skip
        if kind == "worker":
            settings["hooks"] = [*settings["hooks"], *self.fault.worker_hooks]
        process = Process(kind, f"{kind}-{len(known) + 1}", side.folder, settings, self.environment)
        known.append(process)
        return process

    def queue(self, side: str, group: str) -> str:
        """Name of a group's queue."""
        return f"{side}-worker.{group}"

    def begin(self) -> None:
        """Workers, then publishers, then some messages through."""
        for side in self.sides.values():
            self.start("worker", side)
        self.until(lambda side: self.is_ready(side.worker, side), 40, "the workers to be ready")
        for side in self.sides.values():
            self.start("publisher", side)
        self.flow(30, what="the load to flow")

    def is_ready(self, process: Process, side: Side) -> bool:
        """Whether it has told that it is connected and serves."""
        if not process.alive:
            raise AssertionError(f"{process.name} ended early; see {process.log}")
        return bool(side.log.poll().facts("state", pid=process.pid, when="ready"))

    def until(self, check: Callable[[Side], Any], timeout: float, what: str) -> None:
        """Until this holds on every side."""
        for side in self.sides.values():
            wait_for(lambda s=side: check(s), timeout, f"{side.name}: {what}")  # type: ignore[misc]

    def flow(self, messages: int, timeout: float = 30.0, what: str = "messages to flow") -> None:
        """Until so many more messages are confirmed and handled by every group."""
        before = {name: self._through(side) for name, side in self.sides.items()}
        self.until(lambda side: self._through(side) >= before[side.name] + messages, timeout, what)

    def confirm(self, messages: int, timeout: float = 30.0) -> None:
        """Until so many more are confirmed."""
        before = {name: len(side.log.poll().confirmed()) for name, side in self.sides.items()}
        self.until(lambda side: len(side.log.poll().confirmed()) >= before[side.name] + messages, timeout, "confirms")

    def fresh(self, side: Side) -> int:
        """Messages published since the heal that are confirmed, and handled in every group."""
        log, healed = side.log.poll(), self.healed or 0.0
        found = {id_ for id_ in log.confirmed() if log.attempts[id_].t >= healed}
        return min((len(found & log.handled(group)) for group in self.load.groups), default=len(found))

    def _through(self, side: Side) -> int:
        log = side.log.poll()
        confirmed = log.confirmed()
        return min((len(confirmed & log.handled(group)) for group in self.load.groups), default=len(confirmed))

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        self.killed.add(process.pid)
        process.kill()

    def mark_healed(self) -> None:
        """From now on the clock of the recovery runs."""
        self.healed = time.monotonic()

    # -- what a witness may ask -----------------------------------------------------------------------------

    def health(self, side: Side, process: Process) -> list[dict[str, Any]]:
        """What a program has told of its health."""
        return side.log.poll().facts("health", pid=process.pid)

    def lost_connections(self, side: Side, kind: str) -> int:
        """How often the programs of this kind connected again."""
        processes = side.publishers if kind == "publisher" else side.workers
        return sum(max((f["reconnects"] for f in self.health(side, p)), default=0) for p in processes)

    def broker_log(self) -> str:
        """What the broker has logged since the run began."""
        return self.node.log_text()[self._log_from :]

    def logged(self, text: str, times: int = 1) -> None:
        """Part of a witness: the broker has logged this. It writes its log a moment later."""
        try:
            wait_for(lambda: self.broker_log().count(text) >= times, 10, f"{text!r} in the broker's log")
        except AssertionError as error:
            raise Invalid(str(error)) from None

    def outcomes(self, side: Side, name: str) -> list[dict[str, Any]]:
        """The outcomes of a kind, as they were told."""
        return [fact for fact in side.log.poll().outcomes.values() if fact["outcome"] == name]

    def restart(self, kind: str, side: Side, **more: Any) -> Process:
        """Start another one of a kind, which takes over, and wait until it is ready."""
        process = self.start(kind, side, **more)
        wait_for(lambda: self.is_ready(process, side), 40, f"{side.name}: the new {kind} to be ready")
        return process

    def must(self, condition: object, what: str) -> None:
        """Part of a witness: without it the run is invalid."""
        if not condition:
            raise Invalid(what)

    # -- the end --------------------------------------------------------------------------------------------

    def quiet(self, timeout: float) -> None:
        """Publishers end with all outcomes; then until everything confirmed is handled."""
        self.stop_publishers()
        until = time.monotonic() + timeout
        for side in self.sides.values():
            left = max(0.0, until - time.monotonic())
            try:
                wait_for(lambda s=side: self.all_handled(s), left, "quiet", every=self.fault.poll)  # type: ignore[misc]
            except AssertionError:
                pass  # the judge counts what is missing

    def stop_publishers(self) -> None:
        """Publishers end: no new messages, the outcomes of all, and closing in time."""
        within = self.load.timeout + self.load.grace + 1.0
        running = [process for side in self.sides.values() for process in side.publishers if process.alive]
        together(lambda process: process.stop(within=within), running)

    def stop_workers(self) -> None:
        """Workers end by SIGTERM, in time."""
        running = [process for side in self.sides.values() for process in side.workers if process.alive]
        together(Process.terminate, running)

    def settled(self, side: Side) -> bool:
        """Whether nothing is under way: every publish has its outcome, and all that was confirmed is handled."""
        return len(side.log.poll().outcomes) == len(side.log.attempts) and self.all_handled(side)

    def all_handled(self, side: Side) -> bool:
        """Whether every confirmed message was handled in every group."""
        return not side.log.poll().missing(self.load.groups, self.dead[side.name])

    def clean(self) -> None:
        """Leave nothing behind."""
        for side in self.sides.values():
            for process in [*side.publishers, *side.workers]:
                if process.alive:
                    process.send(18)
                    process.kill()
        if self.proxy is not None:
            self.proxy.__exit__()
        self.site.remove()
