"""Processes that publish and consume together on one file: ready, go, until everything is handled, stop."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.peers.environments import last_line
from benchmarks.peers.rounds import FailedError
from benchmarks.runner import Sample
from benchmarks.sqlite.clients.shared import PATIENCE, Job, Report, arguments

MOST_PATIENCE = PATIENCE + 30.0
ENDED = ""
"""What is heard of a member whose output has ended."""


class Member:
    """A process of the team. What it prints comes to ``heard``, with its number."""

    def __init__(self, number: int, command: Sequence[str], job: Job, heard: queue.Queue[tuple[int, str]]) -> None:
        self.number, self._heard = number, heard
        self.process = subprocess.Popen(
            [*command, *arguments(job)],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors: list[str] = []
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._heard.put((self.number, line))
        self._heard.put((self.number, ENDED))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors += self.process.stderr.readlines()

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        """The end of its stdin tells it."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> None:
        """It is gone, whatever it did."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Team:
    """All members, and what was heard of them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._end = stack, time.monotonic() + MOST_PATIENCE
        self._heard: queue.Queue[tuple[int, str]] = queue.Queue()
        self._members: list[Member] = []
        self._last: dict[int, str] = {}
        self._ended: set[int] = set()

    def add(self, command: Sequence[str], jobs: Sequence[Job]) -> list[Member]:
        """Start members and wait until each is ready.

        :raises FailedError: one is not.
        """
        made = []
        for job in jobs:
            member = Member(len(self._members), command, job, self._heard)
            self._members.append(member)
            self._stack.callback(member.end)
            made.append(member)
        while any(self._last.get(member.number) is None for member in made):
            self._listen()
        return made

    def handled(self, consumers: Sequence[Member]) -> int:
        """How many messages they have told of."""
        told = [self._last.get(member.number, "") for member in consumers]
        return sum(int(line) for line in told if line.strip().isdigit())

    def wait_handled(self, consumers: Sequence[Member], messages: int) -> None:
        """Until they have handled so many.

        :raises FailedError: a member failed, or it takes too long.
        """
        while self.handled(consumers) < messages:
            self._listen()

    def reports(self) -> list[Report]:
        """What each says at its end.

        :raises FailedError: one failed.
        """
        while len(self._ended) < len(self._members):
            self._listen()
        found = []
        for member in self._members:
            said = json.loads(self._last[member.number])
            said["sample"] = None
            found.append(Report(**said))
        return found

    def _listen(self) -> None:
        try:
            number, line = self._heard.get(timeout=max(0.0, self._end - time.monotonic()))
        except queue.Empty:
            raise FailedError(f"it did not end within {MOST_PATIENCE:g} s") from None
        if line != ENDED:
            self._last[number] = line
            return
        self._ended.add(number)
        member = self._members[number]
        if member.process.wait(MOST_PATIENCE):
            member.end()
            raise FailedError(last_line("".join(member.errors)) or f"it ended with {member.process.returncode}")


def together(command: Sequence[str], job: Job, publishers: int, consumers: int) -> Report:
    """One sample of a team: from the first publisher's start to the last handler's.

    :raises FailedError: a process failed, or a message was lost or handled twice.
    """
    taker, share = replace(job, role="consumer"), job.messages // publishers
    total = share * publishers
    with ExitStack() as stack:
        team = Team(stack)
        # The first makes the file: some libraries cannot make it in two processes at once.
        takers = [member for count in (1, consumers - 1) for member in team.add(command, [taker] * count)]
        jobs = [replace(job, role="publisher", messages=share, first=share * n) for n in range(publishers)]
        givers = team.add(command, jobs)
        for member in (*takers, *givers):
            member.go()
        team.wait_handled(takers, total)
        for member in (*givers, *takers):
            member.stop()
        return summed(team.reports(), total, consumers)


def summed(reports: Sequence[Report], messages: int, consumers: int) -> Report:
    """The reports of all members, the consumers' first, as one.

    :raises FailedError: a message was lost or handled twice.
    """
    taking, giving = reports[:consumers], reports[consumers:]
    counted = Counter(number for report in taking for number in report.numbers)
    twice = sum(1 for times in counted.values() if times > 1)
    if twice:
        raise FailedError(f"of {messages} messages {twice} were handled more than once")
    if len(counted) != messages:
        raise FailedError(f"of {messages} messages {messages - len(counted)} were not handled")
    seconds = max(report.ended for report in taking) - min(report.began for report in giving)
    latencies = [latency for report in taking for latency in report.latencies]
    cpu = sum(report.cpu for report in reports)
    return Report(sample=Sample(messages, seconds, cpu, latencies), pragmas=reports[0].pragmas)
