"""What shall run, and what becomes of it, as values and plain decisions."""

from __future__ import annotations

from typing import NamedTuple

from eventbus._bus._health import StopReport
from eventbus._cli import exits

SOON_SECONDS = 5.0
"""A worker that dies sooner than this after its start has not worked."""
GIVE_UP_AFTER = 5
"""So many such deaths in a row, and another try is of no use."""
DEFAULT_GRACE = 30.0
MARGIN_SECONDS = 5.0
"""Beyond its grace a worker gets this to close connections and end; then it is killed."""
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0


class Plan(NamedTuple):
    """What one ``eventbus run`` serves; ``grace`` None is each bus's own, ``debug`` shows tracebacks."""

    apps: tuple[str, ...]
    workers: int = 1
    grace: float | None = None
    reload: bool = False
    debug: bool = False

    @property
    def in_this_process(self) -> bool:
        """Whether one bus alone needs no processes."""
        return len(self.apps) == 1 and self.workers == 1 and not self.reload

    def places(self) -> list[tuple[str, str]]:
        """Name and bus of every worker."""
        numbers = range(1, self.workers + 1)
        return [(f"{app}#{number}" if self.workers > 1 else app, app) for app in self.apps for number in numbers]

    def told(self) -> str:
        """In a line for the log."""
        each = f", {self.workers} workers each" if self.workers > 1 and len(self.apps) > 1 else ""
        each = each or (f", {self.workers} workers" if self.workers > 1 else "")
        again = ", again at every change of the code" if self.reload else ""
        return f"running {', '.join(self.apps)}{each}{again}"


class Outcome(NamedTuple):
    """How a run ended: its exit code, and the error that ended it."""

    code: int
    error: str | None = None

    def joined(self, other: Outcome) -> Outcome:
        """The first that is not good counts."""
        return self if self.code != exits.DONE else other


def pause_after(deaths: int) -> float | None:
    """Seconds until a worker that died soon, so many times in a row, is started again; None: give up."""
    if deaths >= GIVE_UP_AFTER:
        return None
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * float(2**deaths))


def deaths_in_a_row(before: int, lived: float) -> int:
    """How many there are now, after a worker that lived so many seconds."""
    return before + 1 if lived < SOON_SECONDS else 1


def code_of(report: StopReport) -> int:
    """The exit code that tells of a stop."""
    return exits.DONE if report.clean else exits.FAILED


def how_ended(report: StopReport) -> str:
    """A stop in words."""
    if report.clean:
        return "ended, nothing left behind"
    left = []
    if report.abandoned:
        left.append(f"{report.abandoned} handlers did not end in time (their messages go back to the broker)")
    if report.unknown:
        left.append(f"{report.unknown} publishes are without an outcome")
    return f"ended, but {' and '.join(left)}"


def how_died(code: int) -> str:
    """By what a process ended, from its exit code."""
    import signal

    if code == 0:
        return "itself"
    if code > 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
