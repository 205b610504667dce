"""One place for a worker; processes come and go in it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from eventbus._bus._health import StopReport
from eventbus._cli.serving.early import SIGNALS
from eventbus._cli.serving.plan import DEFAULT_GRACE, MARGIN_SECONDS
from eventbus._cli.serving.worker import worker_main

_spawn = multiprocessing.get_context("spawn")  # a fork would share sockets and locks


class Place:
    """A worker's process and what is known of it; ``due`` is when the next one starts, 0 when none shall."""

    def __init__(self, name: str, app: str, grace: float | None, debug: bool) -> None:
        self.name = name
        self.app = app
        self._given_grace = grace
        self._debug = debug
        self.grace = DEFAULT_GRACE if grace is None else grace
        self.process: SpawnProcess | None = None
        self.pipe: Connection | None = None
        self.due = 0.0
        self.deaths = 0
        self.replaced = False
        self.failure: tuple[int, str] | None = None
        self.report: StopReport | None = None
        self._began = 0.0
        self._kill_at: float | None = None

    def start(self) -> None:
        """Start a process."""
        self.due, self.failure, self.report, self._kill_at, self.replaced = 0.0, None, None, None, False
        self.pipe, theirs = _spawn.Pipe()
        arguments = (self.app, self._given_grace, logging.getLogger().level, self._debug, theirs)
        self.process = _spawn.Process(target=worker_main, args=arguments, name=self.name)
        resource_tracker.ensure_running()  # it would unblock the signals
        # A child inherits what is blocked: a signal that comes before it is ready to be asked waits until it is.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._began = time.monotonic()

    @property
    def pid(self) -> int:
        """Of its process; 0 when there is none."""
        return 0 if self.process is None else self.process.pid or 0

    @property
    def lived(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    def ask_to_end(self, within: float | None = None) -> None:
        """SIGTERM: drain, or stop at once if it drains already. It is killed if it has not ended by then."""
        if self._signal(signal.SIGTERM):
            self._kill_at = time.monotonic() + (self.grace if within is None else within) + MARGIN_SECONDS

    def kill(self) -> None:
        """SIGKILL."""
        self._kill_at = None
        self._signal(signal.SIGKILL)

    def kill_when_late(self) -> bool:
        """Kill a process that was asked to end and has not; gives whether it was one."""
        late = self._kill_at is not None and time.monotonic() >= self._kill_at
        if late:
            self.kill()
        return late

    @property
    def next_look(self) -> float | None:
        """When something is to be done here even if nothing happens."""
        return self._kill_at if self.process is not None else (self.due or None)

    def _signal(self, number: int) -> bool:
        process = self.process
        if process is None or process.pid is None or not process.is_alive():
            return False
        os.kill(process.pid, number)
        return True

    def ended(self) -> int:
        """Forget the process; gives its exit code."""
        assert self.process is not None
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        self.hung_up()
        self.process, self._kill_at = None, None
        assert code is not None
        return code

    def hung_up(self) -> None:
        """Forget the pipe."""
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None
