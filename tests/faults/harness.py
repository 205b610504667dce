"""One run of one fault: processes under load, the fault in the middle of it, quiet, and the judgement."""

from __future__ import annotations

import logging
import random
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from tests.faults.brokers import Node, Site
from tests.faults.oracle import OUTCOMES, Log, Rules, Verdict, judge
from tests.faults.processes import Hung, Process, together
from tests.faults.proxy import Proxy

log = logging.getLogger("tests.faults")

SIDES = ("sync", "async")


POLL = 0.05


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


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the programs do, on each side. Times are seconds."""

    rate: float = 150.0
    count: int | None = None
    """Messages of each lane; None: until told to stop."""
    size: int = 0
    timeout: float = 20.0
    window: int = 1000
    grace: float = 8.0
    work: float = 0.002
    concurrency: int = 4
    prefetch: int = 6
    heartbeat: int = 2
    groups: tuple[str, ...] = ("ordered", "parallel")
    lanes: tuple[str, ...] = ("one", "two", "pipe")
    ask: bool = False
    fails: int = 0
    hoard: bool = False
    bound: int | None = None
    hooks: tuple[str, ...] = ()


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
        self.hooks = [*fault.load.hooks, *([f"tests.faults.mutants:{mutant}"] if mutant else [])]
        self.extra: dict[str, dict[str, Any]] = {"publisher": {}, "worker": {}}
        self.killed: set[int] = set()
        self.dead: dict[str, set[str]] = {name: set() for name in SIDES}
        self.healed: float | None = None
        self.secrets = [self.site.password]
        self._log_from = len(node.broker.log_text())
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
        return self.node.broker.log_text()[self._log_from :]

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


class Fault:
    """One kind of fault. Subclasses say how it comes about, how one sees that it did, and how it goes away."""

    name: ClassVar[str]
    title: ClassVar[str]
    sides: ClassVar[tuple[str, ...]] = SIDES
    node: ClassVar[str] = "shared"
    """Which broker: ``shared``, ``mortal`` (may be killed, with TLS) or ``cluster``."""
    load: ClassVar[Load] = Load()
    repeats: ClassVar[int] = 3
    proxied: ClassVar[bool] = False
    url_options: ClassVar[dict[str, Any]] = {}
    worker_hooks: ClassVar[tuple[str, ...]] = ()
    quiet_seconds: ClassVar[float] = 20.0
    settle_seconds: ClassVar[float] = 40.0
    poll: ClassVar[float] = POLL
    resends: ClassVar[bool] = True
    losses: ClassVar[bool] = True
    ordered: ClassVar[bool] = True
    redeliveries_ordered: ClassVar[bool] = True
    one_queue: ClassVar[bool] = False
    memory: ClassVar[float | None] = None
    exit_codes: ClassVar[tuple[int, ...]] = (0,)
    nothing_unknown: ClassVar[bool] = False
    """The broker is back before any deadline, so that every publish must end in a confirm."""

    def hosts(self, run: Run) -> str | None:
        """Hosts for the URL, where they are not the node's own."""
        return None

    def url(self, run: Run) -> str:
        """The URL that programs get."""
        return run.url()

    def prepare(self, run: Run) -> None:
        """Before any process is started."""

    def inject(self, run: Run) -> None:
        """Under load: make it happen, and wait until it has had its effect."""

    def witness(self, run: Run) -> None:
        """Raise :class:`Invalid` unless it really happened."""
        raise NotImplementedError

    def heal(self, run: Run) -> None:
        """Make it go away."""

    def undo(self, run: Run) -> None:
        """At the end in any case: what would disturb later runs on the same broker."""

    def settle(self, run: Run) -> None:
        """After the heal: until fresh messages flow. They are the canary."""
        run.until(lambda side: run.fresh(side) >= 20, self.settle_seconds, "fresh messages to flow after the fault")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        """Whatever else this fault must show."""


@dataclass
class Result:
    """What one run found."""

    fault: Fault
    seed: int
    seconds: float = 0.0
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    invalid: str | None = None
    happened: bool = False
    """Whether the fault was witnessed."""
    folder: Path | None = None

    @property
    def problems(self) -> list[str]:
        """All that is wrong, by side."""
        return [f"{side}: {problem}" for side, verdict in self.verdicts.items() for problem in verdict.problems]

    @property
    def codes(self) -> set[str]:
        """Kinds of what is wrong."""
        return {problem.code for verdict in self.verdicts.values() for problem in verdict.problems}

    @property
    def passed(self) -> bool:
        """Whether the fault happened, and nothing is wrong."""
        return self.invalid is None and not self.codes


def execute(fault: Fault, node: Node, folder: Path, seed: int, mutant: str | None = None) -> Result:
    """Run a fault once."""
    began = time.monotonic()
    run = Run(fault, node, folder, seed, mutant)
    result = Result(fault, seed, folder=folder)
    stuck: list[str] = []
    try:
        _prepare(run)
        fault.inject(run)
        fault.witness(run)
        result.happened = True
        fault.heal(run)
        if run.healed is None:
            run.mark_healed()
        fault.settle(run)
    except Invalid as invalid:
        result.invalid = str(invalid)
    except Exception as error:
        # A program stands still, so that something did not come about; or the suite itself is wrong.
        stuck.append("".join(traceback.format_exception_only(error)).strip())
        log.debug("%s, seed %d", fault.name, seed, exc_info=error)
    try:
        if result.invalid is None:
            _finish(run, stuck)
            for side in run.sides.values():
                result.verdicts[side.name] = _judged(run, side, stuck, result.happened)
    finally:
        fault.undo(run)
        run.clean()
        result.seconds = time.monotonic() - began
    return result


def _prepare(run: Run) -> None:
    if run.fault.proxied:
        run.proxy = Proxy(run.node.broker.port).__enter__()
    run.fault.prepare(run)
    run.begin()


def _finish(run: Run, stuck: list[str]) -> None:
    """Quiet, and the end of all programs."""
    if stuck:
        run.fault.undo(run)  # what is stuck already need not hold up the rest
    run.quiet(run.fault.quiet_seconds if not stuck else 5.0)
    try:
        run.stop_workers()
    except Hung as error:
        stuck.append(str(error))


def _judged(run: Run, side: Side, stuck: Iterable[str], happened: bool) -> Verdict:
    fault = run.fault
    rules = Rules(
        groups=run.load.groups,
        timeout=run.load.timeout,
        concurrency=run.load.concurrency,
        window=run.load.window,
        killed=frozenset(run.killed),
        dead=frozenset(run.dead[side.name]),
        ordered=fault.ordered,
        redeliveries_ordered=fault.redeliveries_ordered,
        one_queue=fault.one_queue,
        resends=fault.resends,
        losses=fault.losses,
        memory=fault.memory,
        exit_codes=fault.exit_codes,
    )
    verdict = judge(side.log, rules, run.healed)
    for text in stuck:
        verdict.says("stuck", text)
    failed = {name: verdict.counts[name] for name in OUTCOMES[1:] if verdict.counts[name]}
    if fault.nothing_unknown and failed:
        verdict.says("unresolved", f"the broker was back in time, and yet {failed}")
    _look_for_secrets(run, side, verdict)
    if happened:
        _look_at_queues(run, side, verdict)
        fault.check(run, side, verdict)
    return verdict


def _look_for_secrets(run: Run, side: Side, verdict: Verdict) -> None:
    for file in [*side.folder.glob("*.log"), *side.folder.glob("*.jsonl")]:
        text = file.read_text(errors="replace")
        if any(secret in text for secret in run.secrets):
            verdict.says("secret", f"the password stands in {file.name}")
    for fact in side.log.facts("fatal"):
        if not fact["ours"]:
            verdict.says("foreign", f"a program ended by {fact['error']}: {fact['text']}")


def _look_at_queues(run: Run, side: Side, verdict: Verdict) -> None:
    """Everything was settled: what the workers left unsettled would be in the queues now that they have gone."""
    for group in run.load.groups:
        queue = run.queue(side.name, group)
        try:
            left = run.site.ready(queue)
        except Exception as error:
            verdict.says("stuck", f"queue {queue} cannot be looked at: {type(error).__name__}")
            continue
        verdict.counts["left"] += left
        if left:
            verdict.says("stuck", f"{left} messages are left in {queue}")


def with_load(fault: type[Fault], **changes: Any) -> Fault:
    """The same fault under another load."""
    made = fault()
    made.load = replace(fault.load, **changes)  # type: ignore[misc]
    return made
