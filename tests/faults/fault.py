"""Faults: what they say of themselves, and under which load they happen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from tests.faults.oracle import Verdict

if TYPE_CHECKING:
    from tests.faults.run import Run, Side

SIDES = ("sync", "async")
POLL = 0.05


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the programs do, on each side. Times are seconds."""

    rate: float = 150.0
    count: int | None = None
    """Messages of each lane; None: until told to stop."""
    size: int = 0
    timeout: float = 20.0
    window: int = 1000
    grace: float = 8.0
    work: float = 0.002
    concurrency: int = 4
    prefetch: int = 6
    heartbeat: int = 2
    groups: tuple[str, ...] = ("ordered", "parallel")
    lanes: tuple[str, ...] = ("one", "two", "pipe")
    ask: bool = False
    fails: int = 0
    hoard: bool = False
    bound: int | None = None
    hooks: tuple[str, ...] = ()


class Fault:
    """One kind of fault. Subclasses say how it comes about, how one sees that it did, and how it goes away."""

    name: ClassVar[str]
    title: ClassVar[str]
    sides: ClassVar[tuple[str, ...]] = SIDES
    node: ClassVar[str] = "shared"
    """Which broker: ``shared``, ``mortal`` (may be killed, with TLS), ``cluster``, or ``file`` (none)."""
    load: ClassVar[Load] = Load()
    repeats: ClassVar[int] = 3
    proxied: ClassVar[bool] = False
    url_options: ClassVar[dict[str, Any]] = {}
    worker_hooks: ClassVar[tuple[str, ...]] = ()
    quiet_seconds: ClassVar[float] = 20.0
    settle_seconds: ClassVar[float] = 40.0
    poll: ClassVar[float] = POLL
    resends: ClassVar[bool] = True
    losses: ClassVar[bool] = True
    ordered: ClassVar[bool] = True
    redeliveries_ordered: ClassVar[bool] = True
    one_queue: ClassVar[bool] = False
    memory: ClassVar[float | None] = None
    exit_codes: ClassVar[tuple[int, ...]] = (0,)
    nothing_unknown: ClassVar[bool] = False
    """The broker is back before any deadline, so that every publish must end in a confirm."""

    def hosts(self, run: Run) -> str | None:
        """Hosts for the URL, where they are not the node's own."""
        return None

    def url(self, run: Run) -> str:
        """The URL that programs get."""
        return run.url()

    def prepare(self, run: Run) -> None:
        """Before any process is started."""

    def inject(self, run: Run) -> None:
        """Under load: make it happen, and wait until it has had its effect."""

    def witness(self, run: Run) -> None:
        """Raise :class:`Invalid` unless it really happened."""
        raise NotImplementedError

    def heal(self, run: Run) -> None:
        """Make it go away."""

    def undo(self, run: Run) -> None:
        """At the end in any case: what would disturb later runs on the same broker."""

    def settle(self, run: Run) -> None:
        """After the heal: until fresh messages flow. They are the canary."""
        run.until(lambda side: run.fresh(side) >= 20, self.settle_seconds, "fresh messages to flow after the fault")

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        """Whatever else this fault must show."""


def with_load(fault: type[Fault], **changes: Any) -> Fault:
    """The same fault under another load."""
    made = fault()
    made.load = replace(fault.load, **changes)  # type: ignore[misc]
    return made
