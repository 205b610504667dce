"""The rounds: every client once in each, in an order that changes; then medians and parts of the ceiling."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from benchmarks.peers.clients import ceiling
from benchmarks.peers.clients.shared import PATIENCE, Job, arguments
from benchmarks.peers.clients.wire import Refused, Wire
from benchmarks.peers.environments import ROOT, NoEnvironmentError, Ready, last_line, ready
from benchmarks.peers.registry import CEILING, PREFETCH, Absent, Choice, Client, QueueType, Work
from benchmarks.runner import Plan, Result, Sample, enough, summary

T = TypeVar("T")

EXCHANGE = "eventbus.events"
"""The exchange of eventbus: all publish there."""
TYPE = "benchmarks.peers.measured"
WARM_UP = 0.25
DECLARE_ATTEMPTS = 10
SETTLE = 0.02
MOST_BYTES = 256 << 20
"""Of one sample's bodies: they are all in the queue at once."""


class FailedError(Exception):
    """A client gave no sample."""


@dataclass(frozen=True, slots=True)
class Runner:
    """A client that is there."""

    client: Client
    command: Sequence[str]

    def sample(self, job: Job) -> Sample:
        """Let it do its work once.

        :raises FailedError: it failed, or took too long.
        """
        with tempfile.NamedTemporaryFile() as body:
            body.write(job.body)
            body.flush()
            command = [*self.command, *arguments(job, Path(body.name)), *self.client.options]
            try:
                ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE + 30)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise FailedError(type(error).__name__) from error  # the command shows the URL's password
        if ran.returncode:
            raise FailedError(last_line(ran.stderr) or f"it ended with {ran.returncode}")
        return Sample(**json.loads(last_line(ran.stdout)))


def compare(plan: Plan, choice: Choice) -> Iterator[Result | Absent]:
    """All works, one after the other."""
    works, clients = choice.chosen_works(quick=plan.quick), choice.chosen_clients()
    runners = []
    for client in clients:
        try:
            found: Ready = ready(client, build=choice.build)
        except NoEnvironmentError as error:
            yield Absent(client=client.name, reason=str(error))
        else:
            runners.append(Runner(client, found.command))
    for work in works:
        yield from measured(plan, work, [r for r in runners if work.name in r.client.works], choice)


def versions(choice: Choice) -> dict[str, str]:
    """What the clients are built from, of those that are there."""
    found: dict[str, str] = {}
    for client in choice.chosen_clients():
        try:
            made = ready(client, build=False)
        except NoEnvironmentError:
            continue
        found |= {f"{name} ({client.environment})": version for name, version in made.versions.items()}
    return found


def measured(plan: Plan, work: Work, runners: Sequence[Runner], choice: Choice) -> Iterator[Result | Absent]:
    """One work by all; a client that fails once is out, and is said so."""
    taken: dict[str, list[Sample]] = {runner.client.name: [] for runner in runners}
    failed: dict[str, str] = {}
    with prepared(plan.url, work, choice.queue) as bench:
        for number in range(-1 if plan.amount.seconds is not None and not plan.quick else 0, plan.repeats):
            for runner in shuffled(runners, choice.seed + number):
                name = runner.client.name
                if name in failed:
                    continue
                count = messages(plan, work, runner.client, taken[name][-1:])
                if number < 0:
                    count = max(2, int(count * WARM_UP))
                try:
                    with plan.progress.measuring(f"peers/{work.name}", name, {"round": number + 1}):
                        taken[name].append(bench.sample(runner, count))
                except (FailedError, Refused) as error:
                    failed[name] = f"failed: {error}"
    kept = {name: samples[-plan.repeats :] for name, samples in taken.items() if name not in failed}
    ratios = of_ceiling(kept)
    for runner in runners:
        name = runner.client.name
        if name in failed:
            yield Absent(benchmark=f"peers/{work.name}", client=name, reason=failed[name])
            continue
        settings = work.settings(choice.queue, runner.client.window(work))
        result = summary(
            kept[name], benchmark=f"peers/{work.name}", client=name, settings=settings, body_bytes=work.body
        )
        count = int(statistics.median(sample.messages for sample in kept[name]))
        yield replace(result, messages=count, of_ceiling=ratios.get(name))


def shuffled(runners: Sequence[T], seed: int) -> list[T]:
    """Another order in each round, and the same for the same seed."""
    order = list(runners)
    random.Random(seed).shuffle(order)
    return order


def messages(plan: Plan, work: Work, client: Client, last: Sequence[Sample]) -> int:
    """How many the next sample shall have: by the pace of the last one, or by a guess."""
    guess = Sample(client.pace(work), 1.0, 0.0)
    count = enough(last[0] if last else guess, plan.amount)
    return max(2, min(count, MOST_BYTES // work.body))


def of_ceiling(taken: Mapping[str, Sequence[Sample]], beside: str = CEILING) -> dict[str, float]:
    """The median of each client's rates, each as a part of the ceiling's rate in the same round.

    The ceiling is the client named ``beside``.
    """
    rates = {name: [sample.messages / sample.seconds for sample in samples] for name, samples in taken.items()}
    top = rates.get(beside)
    if top is None:
        return {}
    return {
        name: round(statistics.median(rate / most for rate, most in zip(found, top, strict=True)), 3)
        for name, found in rates.items()
    }


@dataclass(frozen=True, slots=True)
class Bench:
    """The queue of one work, which all clients share; it is empty between samples."""

    wire: Wire
    work: Work
    job: Job

    def sample(self, runner: Runner, messages: int) -> Sample:
        """One sample, and whether everything arrived, or was acked."""
        job = replace(self.job, messages=messages, window=runner.client.window(self.work))
        self.empty()
        if self.work.kind == "consume":
            ceiling.fill(replace(job, window=self.work.window))
        taken = runner.sample(job)
        left = self.wire.purge(job.queue)
        time.sleep(SETTLE)
        if self.work.kind == "publish" and left < messages:
            raise FailedError(f"of {messages} messages {left} are in the queue")
        # A quorum queue may give back what was acked just before the connection closed: these messages would come anew.
        if self.work.kind != "publish" and left > job.prefetch:
            raise FailedError(f"{left} messages were left in the queue")
        return taken

    def empty(self) -> None:
        """Nothing is in the queue, nor comes back from a consumer that has just gone."""
        while self.wire.purge(self.job.queue):
            time.sleep(SETTLE)


@contextmanager
def prepared(url: str, work: Work, queue: QueueType) -> Iterator[Bench]:
    """The queue, bound and empty. A responder's queue is classic, as eventbus declares it."""
    kind: QueueType = "classic" if work.kind == "rpc" else queue
    body = body_of(work.body)
    job = Job(
        work=work.name,
        url=url,
        exchange=EXCHANGE,
        key=TYPE,
        queue=f"benchmarks.peers.{uuid.uuid4().hex[:12]}",
        queue_type=kind,
        messages=0,
        window=work.window,
        prefetch=PREFETCH,
        body=body,
    )
    with declared(job, kind) as wire:
        try:
            yield Bench(wire, work, job)
        finally:
            wire.delete(job.queue)


def declared(job: Job, kind: QueueType) -> Wire:
    """A connection on which the queue has been declared.

    A broker that is still busy with the gigabyte of the last work may be too slow to start a quorum queue.
    """
    for attempt in range(DECLARE_ATTEMPTS):
        wire = Wire(job.url)
        try:
            wire.declare_topic(EXCHANGE)
            wire.declare(job.queue, {"x-queue-type": kind})
            wire.bind(job.queue, EXCHANGE, TYPE)
        except Refused:
            wire.socket.close()  # the broker has closed its side already
            if attempt == DECLARE_ATTEMPTS - 1:
                raise
            time.sleep(1.0)
        else:
            return wire
    raise AssertionError


def body_of(size: int) -> bytes:
    """A ``Measured`` as JSON of so many bytes."""
    event = {"number": 10_000, "name": "Ada Lovelace", "email": "ada@example.com", "country": "se", "text": ""}

    def encoded() -> bytes:
        return json.dumps(event, separators=(",", ":")).encode()

    event["text"] = "x" * max(0, size - len(encoded()))
    return encoded()
