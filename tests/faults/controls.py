"""Negative controls: the suite is pointed at variants that are known to be broken, and must catch each.

Caught means that the run was valid, and that on every side the judge found a problem of the kind that this mistake
makes. A broken variant that fails for another reason, or none, is a hole in the suite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.fault import Fault, with_load
from tests.faults.harness import Result
from tests.faults.kinds import (
    connections,
    handlers,
    network,
    programs,
    resources,
    sqlite,
    sqlite_killed,
    sqlite_room,
    topology,
)
from tests.faults.suite import Suite


@dataclass(frozen=True, kw_only=True)
class Control:
    """A broken variant, the fault that shows it, and the kinds of problems that count as caught."""

    mutant: str
    fault: type[Fault]
    codes: frozenset[str]
    load: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Caught:
    """How a control went."""

    control: Control
    result: Result

    @property
    def sides(self) -> dict[str, set[str]]:
        """By side: the kinds of problems found that count."""
        return {
            side: {problem.code for problem in verdict.problems} & self.control.codes
            for side, verdict in self.result.verdicts.items()
        }

    @property
    def reasons(self) -> list[str]:
        """The kinds of problems by which it was found out."""
        return sorted({code for codes in self.sides.values() for code in codes})

    @property
    def caught(self) -> bool:
        """Whether every side was found out, for the right reason."""
        return self.result.happened and bool(self.sides) and all(self.sides.values())


def control(mutant: str, fault: type[Fault], *codes: str, **load: Any) -> Control:
    return Control(mutant=mutant, fault=fault, codes=frozenset(codes), load=load)


CONTROLS: tuple[Control, ...] = (
    control("ack_before_handler", programs.WorkerKilled, "lost", work=0.05, rate=60),
    control("confirm_on_write", network.BlackHole, "lost"),
    control("mandatory_off", topology.Unbound, "lost"),
    control(
        "stale_ack_sent", connections.ConnectionsClosed, "stale ack", "lost", work=0.5, rate=8, groups=("parallel",)
    ),
    control("resend_off", network.BlackHole, "unresolved"),
    control("prefetch_unlimited", resources.SmallBacklog, "prefetch"),
    control("concurrency_ignored", resources.SmallBacklog, "limit"),
    control("window_ignored", resources.MemoryAlarm, "window", rate=400),
    control("server_cancel_ignored", topology.QueueDeleted, "stuck"),
    control("nack_taken_for_ack", topology.QueueFull, "lost"),
    control("drop_on_failure", handlers.Failing, "lost"),
    control("requeue_undecodable", handlers.Poisoned, "dead letters"),
    control("ack_undecodable", handlers.Poisoned, "dead letters"),
    control("close_unbounded", resources.StoppedWhileFrozen, "exit"),
    control("close_leaks", topology.Unbound, "leak"),
    control("mismatch_swallowed", topology.Drifted, "silent"),
    control(
        "handlers_block_io",
        handlers.LongHandlers,
        "connection",
        "duplicate",
        "unflagged",
        groups=("parallel",),
        concurrency=1,
        rate=6,
    ),
    control("driver_errors_escape", connections.BrokerFrozen, "foreign"),
    control("returns_mistaken", topology.BadChannel, "false failure", "unresolved", "untrue"),
    control("url_logged", topology.Unbound, "secret"),
    control("ack_before_handler", sqlite_killed.FewWorkersKilled, "lost", work=0.05, rate=60),
    control("confirm_before_commit", sqlite_killed.FewPublishersKilled, "lost", lanes=("pipe",)),
    control("settle_by_message", sqlite.FrozenPastLease, "stale ack"),
    control("leases_not_renewed", sqlite.LongerThanLease, "connection", "duplicate"),
    control("claims_left", sqlite_killed.WorkerKilledAlone, "lost", "file"),
    control("lock_is_loss", sqlite.SmallCrowd, "locked", "connection"),
    control("claim_without_lock", sqlite.SmallCrowd, "claims", "duplicate"),
    control("full_is_confirmed", sqlite_room.FileLimited, "lost"),
)


def run_controls(suite: Suite, seed: int, names: Sequence[str], tell: Callable[[Caught], None]) -> list[Caught]:
    """Run the controls of these names, or by the faults of these names; or all."""
    found: list[Caught] = []
    for number, one in enumerate(CONTROLS):
        if names and not {one.mutant, one.fault.name}.intersection(names):
            continue
        found.append(once(suite, one, seed + number))
        if found[-1].result.invalid is not None:  # a fault that did not happen proves nothing either way
            found[-1] = once(suite, one, seed + number + 1000)
        tell(found[-1])
    return found


def once(suite: Suite, one: Control, seed: int) -> Caught:
    """Run a broken variant once."""
    fault = with_load(one.fault, **one.load)
    # What is lost need not be waited for.
    fault.settle_seconds = 4.0  # type: ignore[misc]
    fault.quiet_seconds = min(fault.quiet_seconds, 3.0)  # type: ignore[misc]
    return Caught(control=one, result=suite.once(fault, seed, one.mutant))
