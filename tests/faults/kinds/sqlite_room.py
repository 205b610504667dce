"""A bus in one file that cannot be written: locked by another program, or without room."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from contextlib import ExitStack, suppress
from typing import ClassVar

from tests.faults.fault import Load
from tests.faults.kinds.sqlite import FileFault, file_of
from tests.faults.oracle import Verdict, longest_gap
from tests.faults.run import Run, Side

MIB = 2**20


class Unwritable(FileFault):
    """For a while nothing can be published: each publish ends by its deadline, safe to try again, and says why."""

    load = Load(timeout=2.0, window=200)
    losses = False
    resends = False
    words: ClassVar[tuple[str, ...]]
    """What the errors, and the health, must say."""
    health_says: ClassVar[str | None] = None
    refused: ClassVar[int] = 20

    def hurt(self, run: Run) -> None:
        """Make it so."""
        raise NotImplementedError

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 40))
        before = {name: self._refused(run, side) for name, side in run.sides.items()}
        self.hurt(run)
        with suppress(AssertionError):  # whether anybody was refused, is judged at the end
            run.until(lambda s: self._refused(run, s) >= before[s.name] + self.refused, 15, "publishes to be refused")
        if self.health_says is not None:
            run.until(lambda s: self._told(run, s), 20, "the health to say so")

    @staticmethod
    def _refused(run: Run, side: Side) -> int:
        return len(run.outcomes(side, "not_sent"))

    def _told(self, run: Run, side: Side) -> bool:
        return any(self.health_says in str(f["blocked"]) for f in run.health(side, side.publisher) if self.health_says)

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        super().check(run, side, verdict)
        if unknown := run.outcomes(side, "unknown"):
            verdict.says("untrue", f"{len(unknown)} are unknown, such as: {unknown[0]['text']}")
        texts = [fact["text"] for fact in run.outcomes(side, "not_sent")]
        for text in texts:
            if not all(word in text for word in self.words):
                verdict.says("untrue", f"an error says only: {text}")
                break
        if not texts:
            verdict.says("untrue", "nobody was refused")
        if run.health(side, side.publisher)[-1]["blocked"]:
            verdict.says("health", "it is said to be blocked for ever")


class Locked(Unwritable):
    """S5: another program holds the write lock for longer than a deadline."""

    name, title = "sqlite-locked", "file: locked by another program (BEGIN EXCLUSIVE)"
    words = ("locked", "bus.db")
    health_says = "locked"
    repeats = 2

    def prepare(self, run: Run) -> None:
        self.exits = ExitStack()

    def hurt(self, run: Run) -> None:
        self.lock = self.exits.enter_context(file_of(run).sql())
        self.lock.execute("BEGIN EXCLUSIVE")

    def heal(self, run: Run) -> None:
        self.undo(run)
        run.mark_healed()

    def undo(self, run: Run) -> None:
        self.exits.close()

    def witness(self, run: Run) -> None:
        run.must(self.lock.in_transaction, "the lock was lost")
        for side in run.sides.values():
            gap = longest_gap(side.log.poll())
            run.must(side.log.poll().outcomes and gap < 60, f"{side.name}: no outcomes")


class LockedWhole(Locked):
    """S5: another program has the file for itself alone, also for reading; who starts meanwhile waits for it."""

    name, title = "sqlite-locked-alone", "file: kept by another program for itself (locking_mode=EXCLUSIVE)"

    def hurt(self, run: Run) -> None:
        """It gets the file when everybody has left it; then a worker and a publisher start."""
        run.stop_publishers()
        run.until(lambda s: run.all_handled(s), 20, "the file to be empty")
        run.stop_workers()
        self.lock = self.exits.enter_context(file_of(run).sql())
        self.lock.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.lock.execute("BEGIN EXCLUSIVE")
        for side in run.sides.values():
            run.start("worker", side)
            run.start("publisher", side)

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 40))
        self.hurt(run)
        run.until(lambda s: self._waits(run, s), 30, "the health to name the lock")

    @staticmethod
    def _waits(run: Run, side: Side) -> bool:
        return any("locked" in str(fact["error"]) for fact in run.health(side, side.worker))

    def witness(self, run: Run) -> None:
        run.must(self.lock.in_transaction, "the lock was lost")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        FileFault.check(self, run, side, verdict)
        for fact in side.log.facts("fatal"):
            verdict.says("untrue", f"a program gave up: {fact['text']}")
        for fact in run.outcomes(side, "not_sent"):
            if not all(word in fact["text"] for word in self.words):
                verdict.says("untrue", f"an error says only: {fact['text']}")


class DiskLow(Unwritable):
    """S6: less than ``disk_free_limit`` is free: publishes are refused, and what is there is handled and acked."""

    name, title = "sqlite-disk-low", "file: less than disk_free_limit free"
    words = ("room",)
    health_says = "disk"
    repeats = 2

    def prepare(self, run: Run) -> None:
        found = os.statvfs(file_of(run).path.parent)
        self.limit = found.f_bavail * found.f_frsize - 256 * MIB
        self.filler = file_of(run).path.with_name("filler")

    def url(self, run: Run) -> str:
        return file_of(run).url(disk_free_limit=self.limit)

    def hurt(self, run: Run) -> None:
        with self.filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 512 * MIB)

    def witness(self, run: Run) -> None:
        run.until(lambda s: run.all_handled(s), 20, "what was there to be handled, and acked")
        run.must(all(run.site.ready(run.queue(s, g)) == 0 for s in run.sides for g in run.load.groups), "not acked")

    def heal(self, run: Run) -> None:
        self.undo(run)
        run.mark_healed()

    def undo(self, run: Run) -> None:
        self.filler.unlink(missing_ok=True)


class FileLimited(Unwritable):
    """S6: the publishers' writes beyond the first MiB of a file fail (RLIMIT_FSIZE), those of the workers do not.

    So they fail until a worker has written so much that the write-ahead log begins anew, and soon again. The records
    of the programs stay below that.
    """

    name, title = "sqlite-write-fails", "file: the publisher's writes fail (RLIMIT_FSIZE)"
    words = ("room",)
    load = Load(timeout=2.0, window=200, size=8000)
    repeats = 2

    def hurt(self, run: Run) -> None:
        self._limit(run, MIB)

    @staticmethod
    def _limit(run: Run, size: int) -> None:
        for side in run.sides.values():
            pid = side.publisher.pid
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    def witness(self, run: Run) -> None:
        for side in run.sides.values():
            soft, _ = resource.prlimit(side.publisher.pid, resource.RLIMIT_FSIZE)
            run.must(soft == MIB, f"{side.name}: the limit is {soft}")

    def heal(self, run: Run) -> None:
        self._limit(run, resource.RLIM_INFINITY)
        run.mark_healed()

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        super().check(run, side, verdict)
        if lost := run.lost_connections(side, "worker"):
            verdict.says("connection", f"the worker lost its session {lost} times")


class SizeReached(Unwritable):
    """S6: the file has reached its max_size while nobody handles anything; it goes on as soon as somebody does."""

    name, title = "sqlite-max-size", "file: max_size reached, then drained"
    words = ("max_size",)
    load = Load(timeout=2.0, window=200, size=4000, rate=300, groups=("parallel",))
    url_options: ClassVar = {"max_size": "2MB"}
    repeats = 2

    def hurt(self, run: Run) -> None:
        for side in run.sides.values():
            side.worker.tell("work 3")

    def witness(self, run: Run) -> None:
        with file_of(run).sql() as connection:
            (pages,), (page,) = (connection.execute(f"PRAGMA {w}").fetchone() for w in ("page_count", "page_size"))
        run.must(pages * page >= 1.5 * MIB, f"the file has {pages * page} bytes")

    def heal(self, run: Run) -> None:
        run.mark_healed()
        for side in run.sides.values():
            side.worker.tell("work 0.002")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        super().check(run, side, verdict)
        if lost := run.lost_connections(side, "worker"):
            verdict.says("connection", f"the worker lost its session {lost} times")


class DiskFull(SizeReached):
    """S6: the disk is full to the last byte, and nothing was kept free (``disk_free_limit=0``); then there is room."""

    name, title = "sqlite-disk-full", "file: no byte left on the disk, then room"
    words = ("room",)
    url_options: ClassVar = {"disk_free_limit": 0}

    def prepare(self, run: Run) -> None:
        self.mounted = False
        tool = shutil.which("mount")
        folder = file_of(run).path.parent
        if tool is not None:
            self.mounted = not subprocess.run([tool, "-t", "tmpfs", "-o", "size=8m", "bus", folder]).returncode
        run.must(self.mounted, "no small file system could be mounted")

    def witness(self, run: Run) -> None:
        found = os.statvfs(file_of(run).path.parent)
        run.must(found.f_bavail * found.f_frsize < MIB, f"{found.f_bavail * found.f_frsize} bytes are free")

    def heal(self, run: Run) -> None:
        subprocess.run(["mount", "-o", "remount,size=64m", file_of(run).path.parent], check=True)
        super().heal(run)

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        Unwritable.check(self, run, side, verdict)

    def undo(self, run: Run) -> None:
        if self.mounted and run.healed is None:
            self.heal(run)
