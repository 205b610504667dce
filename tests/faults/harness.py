"""One run of one fault: processes under load, the fault in the middle of it, quiet, and the judgement."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.brokers import Node
from tests.faults.fault import Fault
from tests.faults.oracle import OUTCOMES, Rules, Verdict, judge
from tests.faults.processes import Hung
from tests.faults.proxy import Proxy
from tests.faults.run import Invalid, Run, Side

log = logging.getLogger("tests.faults")


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
