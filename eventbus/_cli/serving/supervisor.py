"""Several workers, each a process: started, watched, started again when one dies, and stopped together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from eventbus._cli import exits
from eventbus._cli.serving.health import Board
from eventbus._cli.serving.worker import worker_main

log = logging.getLogger("eventbus.run")

# A worker that dies this soon has not worked; so many in a row, and another try is of no use.
SOON_SECONDS = 5.0
GIVE_UP_AFTER = 5
_LONGEST_PAUSE = 10.0

_processes = multiprocessing.get_context("spawn")  # a fork would share sockets and locks


class Worker:
    """One place for a worker; processes come and go in it."""

    def __init__(self, name: str, app: str) -> None:
        self.name = name
        self.app = app
        self.process: Any = None
        self.pipe: Connection | None = None
        self.began = 0.0
        self.deaths = 0
        self.due = 0.0
        self.failure: tuple[int, str] | None = None

    def start(self, grace: float | None) -> None:
        """Start a process."""
        self.pipe, theirs = _processes.Pipe()
        level = logging.getLogger().level
        self.process = _processes.Process(target=worker_main, args=(self.app, grace, level, theirs), name=self.name)
        self.process.start()
        theirs.close()
        self.began = time.monotonic()

    def signal(self, number: int) -> None:
        """Send a signal to its process."""
        if self.process is not None and self.process.is_alive():
            os.kill(self.process.pid, number)

    def ended(self) -> int:
        """Forget the process; gives its exit code."""
        self.process.join()
        code = int(self.process.exitcode)
        self.process.close()
        if self.pipe is not None:
            self.pipe.close()
        self.process = self.pipe = None
        return code


class Supervisor:
    """Runs workers until it is told to stop."""

    def __init__(self, apps: Sequence[str], workers: int, grace: float | None, board: Board) -> None:
        names = [(f"{app}#{number}" if workers > 1 else app, app) for app in apps for number in range(1, workers + 1)]
        self._workers = [Worker(name, app) for name, app in names]
        self._grace = grace
        self._board = board
        self._stopping = False
        self._reloading = False
        self._code = exits.DONE
        self._waker, self._woken = _processes.Pipe()
        self._lock = threading.Lock()

    # -- from outside ---------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask all workers to drain; a second time, to stop at once. From signal handlers and threads."""
        self._stopping = True
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        self._wake()

    def reload(self) -> None:
        """Stop the workers in order and start them again, with the code as it is now."""
        self._reloading = True
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        self._wake()

    def _wake(self) -> None:
        self._waker.send(None)

    # -- the loop -------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Until all have ended; gives the exit code."""
        for worker in self._workers:
            self._start(worker)
        while any(worker.process is not None or worker.due for worker in self._workers):
            self._turn()
        return self._code

    def _start(self, worker: Worker) -> None:
        worker.due = 0.0
        worker.failure = None
        self._board.expect(worker.name)
        worker.start(self._grace)
        log.info("%s: worker %d started", worker.name, worker.process.pid)

    def _turn(self) -> None:
        sources: dict[Any, Callable[[], None]] = {self._woken: lambda: self._woken.recv()}
        for worker in self._workers:
            if worker.process is not None:
                sources[worker.process.sentinel] = lambda w=worker: self._ended(w)  # type: ignore[misc]
                if worker.pipe is not None:
                    sources[worker.pipe] = lambda w=worker: self._heard(w)  # type: ignore[misc]
        dues = [worker.due for worker in self._workers if worker.due]
        pause = max(0.0, min(dues) - time.monotonic()) if dues else None
        ready = wait(list(sources), pause)
        for source in sorted(ready, key=lambda found: isinstance(found, int)):  # what was said before an end first
            sources[source]()
        for worker in self._workers:
            if worker.due and (self._stopping or worker.due <= time.monotonic()):
                worker.due = 0.0
                if not self._stopping:
                    self._start(worker)

    def _heard(self, worker: Worker) -> None:
        if worker.pipe is None:
            return
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            worker.pipe.close()
            worker.pipe = None
            return
        if kind == "health":
            if self._board.note(worker.name, value):
                log.info("%s: %s", worker.name, value["status"])
        else:
            worker.failure = value

    def _ended(self, worker: Worker) -> None:
        while worker.pipe is not None and worker.pipe.poll():
            self._heard(worker)
        lived = time.monotonic() - worker.began
        code = worker.ended()
        self._board.expect(worker.name)
        if worker.failure is not None:
            self._fail(*worker.failure)
        elif self._stopping:
            if code != 0:
                self._code = self._code or exits.FAILED
        elif self._reloading:
            self._reloading = any(other.process is not None for other in self._workers)
            worker.due = time.monotonic()
        else:
            self._died(worker, code, lived)

    def _died(self, worker: Worker, code: int, lived: float) -> None:
        worker.deaths = worker.deaths + 1 if lived < SOON_SECONDS else 1
        if worker.deaths >= GIVE_UP_AFTER:
            self._fail(
                exits.FAILED, f"{worker.name}: died {worker.deaths} times within {SOON_SECONDS:.0f} s of its start"
            )
            return
        pause = min(_LONGEST_PAUSE, 0.25 * 2**worker.deaths)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        log.error("%s: worker ended by %s; another starts in %.1f s", worker.name, how, pause)
        worker.due = time.monotonic() + pause

    def _fail(self, code: int, text: str) -> None:
        if self._code == exits.DONE:
            self._code = code
            log.error("%s", text)
        if not self._stopping:
            self.stop()
