"""The rounds: every client once in each, in an order that changes, on a file of its own; then medians and verdicts."""

from __future__ import annotations

import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from benchmarks.peers.environments import ROOT, NoEnvironmentError, interpreter, last_line
from benchmarks.peers.registry import Absent
from benchmarks.peers.rounds import FailedError, of_ceiling, shuffled
from benchmarks.runner import Plan, Result, Sample, enough, summary
from benchmarks.runner import environment as where
from benchmarks.sqlite.clients.shared import PATIENCE, Job, Report, arguments
from benchmarks.sqlite.disk import checked
from benchmarks.sqlite.registry import BARE, BODY, FEW, PREFETCH, WINDOW, Choice, Client, Settings, Synchronous, Work
from benchmarks.sqlite.targets import Verdict, verdicts
from benchmarks.sqlite.team import together

NAME = "sqlite"
MODULE = "benchmarks.sqlite.clients"
WARM_UP = 0.25
MOST_MESSAGES = 200_000
"""Of one sample: bodies are made beforehand, and the file grows with them."""
FEWEST = 40
CLAIM_SECONDS, QUICK_CLAIM_SECONDS = 3.0, 0.2
"""After which a batch is as large as it is: some need seconds for each message of a long queue."""
FILL_PATIENCE = 600.0
"""More for the sample that fills the queue, in seconds."""


@dataclass(frozen=True, slots=True)
class Runner:
    """A client that is there, with where its files are."""

    client: Client
    command: Sequence[str]
    folder: Path

    def sample(self, job: Job, work: Work) -> Sample:
        """Let it do its work once, and check what it says of itself.

        :raises FailedError: it failed, took too long, lost something or had other pragmas than asked for.
        """
        report = together(self.command, job, *work.team) if work.team is not None else self._alone(job)
        claimed = {"journal_mode": "wal", "synchronous": job.synchronous}
        if report.pragmas and dict(report.pragmas) != claimed:
            raise FailedError(f"its pragmas are {dict(report.pragmas)}, not {claimed}")
        expected = job.messages if work.publishes_only else 0
        if report.left is not None and report.left != expected:
            raise FailedError(f"{report.left} messages are in the queue, not {expected}")
        assert report.sample is not None
        return report.sample

    def _alone(self, job: Job) -> Report:
        patience = PATIENCE + 30 + (FILL_PATIENCE if job.queued else 0.0)
        command = [*self.command, *arguments(job)]
        try:
            ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patience)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FailedError(type(error).__name__) from error
        if ran.returncode:
            raise FailedError(last_line(ran.stderr) or f"it ended with {ran.returncode}")
        said = json.loads(last_line(ran.stdout))
        said["sample"] = Sample(**said["sample"])
        return Report(**said)


def compare(plan: Plan, choice: Choice) -> Iterator[Result | Absent | Verdict | str]:
    """All works with each ``synchronous``, one after the other; then what the clients lack, and the targets."""
    checked(choice.folder)
    found: list[Result] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-sqlite-", dir=choice.folder))
        runners: list[Runner] = []
        for client in choice.chosen_clients():
            try:
                runners.append(Runner(client, command_of(client, build=choice.build), Path(folder)))
            except NoEnvironmentError as error:
                yield Absent(benchmark=NAME, client=client.name, reason=str(error))
        for synchronous in choice.chosen_synchronous(quick=plan.quick):
            for name, works in groupby(choice.chosen_works(quick=plan.quick), attrgetter("name")):
                able = [runner for runner in runners if name in runner.client.works]
                for result in measured(plan, list(works), synchronous, able, choice.seed):
                    if isinstance(result, Result):
                        found.append(result)
                    yield result
    yield from (f"{runner.client.name}: {runner.client.lacks}" for runner in runners if runner.client.lacks)
    yield from verdicts(found)


def command_of(client: Client, *, build: bool) -> list[str]:
    """How it is run.

    :raises NoEnvironmentError: it cannot run here.
    """
    python = str(interpreter(client.environment, build=build)[0]) if client.environment else sys.executable
    return [python, "-m", f"{MODULE}.{client.module}"]


def environment(choice: Choice) -> dict[str, str]:
    """What the numbers depend on: SQLite, the file system, and what the clients are built from."""
    found = where(f"SQLite {sqlite3.sqlite_version} on {checked(choice.folder)}")
    for name in {client.environment for client in choice.chosen_clients() if client.environment}:
        try:
            found |= interpreter(name, build=choice.build)[1]
        except NoEnvironmentError:
            continue
    return found


def measured(
    plan: Plan, works: Sequence[Work], synchronous: Synchronous, runners: Sequence[Runner], seed: int
) -> Iterator[Result | Absent]:
    """One work by all, with each of its settings; a client that fails once is out, and is said so.

    A client does all settings in its turn, so that a disk that is slow for seconds meets them alike.
    """
    benchmark, quick = f"{NAME}/{works[0].name}", plan.quick
    taken: dict[tuple[int, str], list[Sample]] = {}
    failed: dict[str, str] = {}
    warms_up = works[0].messages is None and plan.amount.seconds is not None and not quick
    rounds = works[0].rounds_of(plan.repeats, quick=quick)
    for number in range(-1 if warms_up else 0, rounds):
        for runner in shuffled(runners, seed + number):
            for work in works:
                name, samples = runner.client.name, taken.setdefault((work.queued, runner.client.name), [])
                if name in failed:
                    continue
                job = job_of(plan, work, synchronous, runner, samples[-1:], WARM_UP if number < 0 else 1.0)
                try:
                    with plan.progress.measuring(benchmark, name, {"synchronous": synchronous, "round": number + 1}):
                        samples.append(runner.sample(job, work))
                except FailedError as error:
                    failed[name] = f"failed: {error}"
                # A million messages are written once: a sample claims a few of them.
                if work.queued <= FEW or name in failed or number == rounds - 1:
                    shutil.rmtree(job.file.parent, ignore_errors=True)
    yield from (
        Absent(benchmark=f"{benchmark} {synchronous}", client=name, reason=reason) for name, reason in failed.items()
    )
    for work in works:
        kept = {
            runner.client: taken[work.queued, runner.client.name][-rounds:]
            for runner in runners
            if runner.client.name not in failed
        }
        yield from results_of(work, synchronous, kept)


def job_of(plan: Plan, work: Work, synchronous: str, runner: Runner, last: Sequence[Sample], part: float) -> Job:
    """The next sample: by the pace of the last one, or by a guess. Each has a new file, but those with many queued."""
    folder = runner.folder / f"{runner.client.name}-{work.queued}"
    folder.mkdir(exist_ok=True)
    window = 1 if runner.client.one_by_one or work.name == "publish-one" else WINDOW
    return Job(
        work=work.name,
        file=folder / "bench.db",
        synchronous=synchronous,
        messages=messages(plan, work, runner.client, last, part),
        window=window,
        prefetch=PREFETCH,
        body=BODY,
        queued=work.queued,
        limit=QUICK_CLAIM_SECONDS if plan.quick else CLAIM_SECONDS,
    )


def messages(plan: Plan, work: Work, client: Client, last: Sequence[Sample], part: float = 1.0) -> int:
    """How many the next sample shall have, a multiple of the publishers of its team."""
    if work.messages is not None:
        return (work.quick_messages or work.messages) if plan.quick else work.messages
    guess = Sample(int(work.pace * client.speed), 1.0, 0.0)
    count = min(int(enough(last[0] if last else guess, plan.amount) * part), MOST_MESSAGES)
    share = work.team[0] if work.team is not None else 1
    return max(share, max(count, min(FEWEST, plan.given or FEWEST)) // share * share)


def results_of(work: Work, synchronous: str, kept: Mapping[Client, Sequence[Sample]]) -> Iterator[Result]:
    """The medians, and the parts of the bare loop's rate."""
    ratios = of_ceiling({client.name: samples for client, samples in kept.items()}, BARE) if work.compared else {}
    for client, samples in kept.items():
        settings: Settings = {"synchronous": synchronous, **work.settings, "body": BODY}
        if client.one_by_one and "window" in settings:
            settings["window"] = 1
        benchmark = f"{NAME}/{work.name}"
        result = summary(samples, benchmark=benchmark, client=client.name, settings=settings, body_bytes=BODY)
        if work.name == "idle":
            busy = round(statistics.median(sample.cpu / sample.seconds for sample in samples) * 60, 3)
            yield replace(result, messages=0, messages_per_second=0.0, cpu_us_per_message=0.0, idle_cpu=busy)
            continue
        count = int(statistics.median(sample.messages for sample in samples))
        yield replace(result, messages=count, of_ceiling=ratios.get(client.name))
