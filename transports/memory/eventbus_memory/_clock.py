"""Clocks: what the broker asks for the time, and for calls at a later time."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("eventbus.memory")


class Timer:
    """A call that is due at ``when``; :meth:`cancel` undoes it, and does no harm when it is too late."""

    __slots__ = ("_number", "call", "when")

    def __init__(self, when: float, number: int, call: Callable[[], None]) -> None:
        self.when = when
        self.call: Callable[[], None] | None = call
        self._number = number

    def cancel(self) -> None:
        """Do not make the call."""
        self.call = None  # lets go of what the call refers to at once; the heap drops the rest when due

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self._number) < (other.when, other._number)


class Cancellable(Protocol):
    """What :meth:`Clock.call_at` gives back."""

    def cancel(self) -> None:
        """Do not make the call."""


class Clock(Protocol):
    """The time in seconds since some point, and calls at a later time."""

    def now(self) -> float:
        """The time; it never goes back."""

    def call_at(self, when: float, call: Callable[[], None], /) -> Cancellable:
        """Make the call when ``now()`` is ``when``, or soon after if that has passed; never within this method."""


class SystemClock:
    """Real time. A daemon thread makes the calls; it runs only while there are calls to wait for.

    Users ``attach`` and ``detach``: without users nothing is called, and the thread ends. What is due by
    then waits for the next user.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._users = 0
        self._thread: threading.Thread | None = None

    def now(self) -> float:
        """``time.monotonic()``."""
        return time.monotonic()

    def call_at(self, when: float, call: Callable[[], None], /) -> Timer:
        """Make the call in the clock's thread at ``when``."""
        timer = Timer(when, next(self._numbers), call)
        with self._changed:
            heapq.heappush(self._timers, timer)
            self._start()
            if self._timers[0] is timer:
                self._changed.notify_all()
        return timer

    def attach(self) -> None:
        """One user more."""
        with self._changed:
            self._users += 1
            self._start()

    def detach(self, timeout: float) -> None:
        """One user less; after the last one, wait for the thread to end."""
        with self._changed:
            self._users -= 1
            thread = self._thread if self._users == 0 else None
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, timeout))

    def _start(self) -> None:
        if self._users and self._timers and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="eventbus-memory-clock", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (timer := self._next_due()) is not None:
            _call(timer)

    def _next_due(self) -> Timer | None:
        """The next timer, when it is due; None when the thread shall end."""
        with self._changed:
            while self._users and self._timers:
                if self._timers[0].call is None:
                    heapq.heappop(self._timers)
                    continue
                left = self._timers[0].when - time.monotonic()
                if left <= 0:
                    return heapq.heappop(self._timers)
                self._changed.wait(left)
            self._thread = None  # under the lock: the next call_at starts another one
            return None


class ManualClock:
    """A clock for tests: time stands still until :meth:`advance`."""

    def __init__(self, now: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._timers: list[Timer] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        """The time that the test has reached."""
        return self._now

    def call_at(self, when: float, call: Callable[[], None], /) -> Timer:
        """Make the call in the :meth:`advance` that reaches ``when``."""
        timer = Timer(when, next(self._numbers), call)
        with self._lock:
            heapq.heappush(self._timers, timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass: make all calls that fall due, in their order and each at its time, in this thread."""
        until = self._now + seconds
        while True:
            with self._lock:
                if not self._timers or self._timers[0].when > until:
                    self._now = max(self._now, until)
                    return
                timer = heapq.heappop(self._timers)
                self._now = max(self._now, timer.when)
            _call(timer)


def _call(timer: Timer) -> None:
    call = timer.call
    if call is not None:
        try:
            call()
        except Exception:
            log.exception("a timed call of the in-memory broker failed")
