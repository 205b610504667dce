"""Threads for handlers: an elastic pool, per-subscription limits, and a watch on slow handlers."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

log = logging.getLogger("eventbus.handler")

IDLE_SECONDS = 10.0

Job = tuple[Callable[..., None], tuple[Any, ...]]


class Workers:
    """A pool that grows with the work and shrinks when idle.

    Threads are daemons, unlike concurrent.futures': a handler that never ends must not keep the process
    from exiting. How many run at once is the subscriptions' business (:class:`Slots`).
    ``begin`` is called first in each thread.
    """

    def __init__(self, name: str, begin: Callable[[], object] | None = None) -> None:
        self._name = name
        self._begin = begin
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._numbers = itertools.count(1)
        self._closed = False

    def submit(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run ``function`` in some thread, soon. It must not raise."""
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            else:
                thread = threading.Thread(target=self._run, name=f"{self._name}-{next(self._numbers)}", daemon=True)
                self._threads.add(thread)
                thread.start()
        self._jobs.put((function, arguments))

    def _run(self) -> None:
        try:
            if self._begin is not None:
                self._begin()
            while True:
                try:
                    job = self._jobs.get(timeout=IDLE_SECONDS)
                except queue.Empty:
                    with self._lock:
                        if self._idle > 0:
                            self._idle -= 1
                            return
                    continue  # a job is on its way: submit() has counted on this thread
                if job is None:
                    return
                job[0](*job[1])
                with self._lock:
                    if self._closed:
                        return
                    self._idle += 1
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def close(self, timeout: float) -> None:
        """Let idle threads end, and wait for them; busy ones are left to themselves after ``timeout`` seconds."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._jobs.put(None)
        until = time.monotonic() + timeout
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))


class Slots:
    """At most ``concurrency`` deliveries of one subscription at work; the others wait in order."""

    def __init__(
        self,
        concurrency: int,
        workers: Workers,
        work: Callable[[Any], None],
        freed: Callable[[], None] = lambda: None,
    ) -> None:
        self._free = self._all = concurrency
        self._workers = workers
        self._work = work
        self._freed = freed
        self._lock = threading.Lock()
        self._waiting: deque[Any] = deque()

    def put(self, item: Any) -> None:
        """Take an arrival; never blocks."""
        with self._lock:
            if self._free == 0:
                self._waiting.append(item)
                return
            self._free -= 1
        self._workers.submit(self._drain, item)

    def _drain(self, item: Any) -> None:
        # The thread keeps its slot while work is waiting, which spares a hand-over for each delivery.
        work, waiting = self._work, self._waiting
        while True:
            work(item)
            try:
                item = waiting.popleft()
                continue
            except IndexError:
                pass
            with self._lock:  # put() decides under it too: nothing is left behind
                if not waiting:
                    self._free += 1
                    break
                item = waiting.popleft()
        self._freed()

    @property
    def busy(self) -> int:
        """Threads at work."""
        return self._all - self._free

    def clear(self) -> list[Any]:
        """Take back what no thread has begun."""
        items: list[Any] = []
        while True:
            try:
                items.append(self._waiting.popleft())
            except IndexError:
                return items


class Watch:
    """Names handlers that run past their timeout. A thread cannot be stopped, so it is reported."""

    def __init__(self, tell: Callable[[str, float], None] = lambda name, timeout: None) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._late: set[int] = set()
        self._running: dict[int, tuple[float, str, float]] = {}
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def overdue(self) -> int:
        """Handlers that run past their timeout now."""
        return len(self._late)

    def begin(self, name: str, timeout: float) -> int:
        """A handler has begun."""
        with self._lock:
            number = next(self._numbers)
            self._running[number] = (time.monotonic() + timeout, name, timeout)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="eventbus-watch", daemon=True)
                self._thread.start()
            self._wake.notify()
        return number

    def end(self, number: int) -> None:
        """It has ended."""
        with self._lock:
            self._running.pop(number, None)
            self._late.discard(number)

    def _run(self) -> None:
        while True:
            for name, timeout in self._found():
                log.warning("%s: the handler runs longer than its timeout of %g s; it keeps its slot", name, timeout)
                self._tell(name, timeout)
            with self._lock:
                if self._closed:
                    return
                soonest = min((due for due, _, _ in self._running.values()), default=None)
                self._wake.wait(None if soonest is None else max(0.0, soonest - time.monotonic()))

    def _found(self) -> list[tuple[str, float]]:
        """Those that have become late since the last look."""
        with self._lock:
            now = time.monotonic()
            late = [number for number, (due, _, _) in self._running.items() if due <= now]
            self._late.update(late)
            return [self._running.pop(number)[1:] for number in late]

    def close(self) -> None:
        """End the watching thread."""
        with self._lock:
            self._closed = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join()
