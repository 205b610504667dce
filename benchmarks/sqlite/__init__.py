"""sqlite: the bus on ``sqlite:///``, bare sqlite3 loops and other queues in SQLite files, side by side in one run.

All have a file of their own on a real disk, in WAL mode with the same ``synchronous``, and the same body. Clients take
turns in every round, each in processes of its own. Every rate is also given as a part of the bare loop's in the same
round, and the targets are judged at the end.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.peers.registry import Absent
from benchmarks.runner import Plan, Result
from benchmarks.sqlite.disk import NotADiskError
from benchmarks.sqlite.registry import CLIENTS, SYNCHRONOUS, WORKS, Choice
from benchmarks.sqlite.targets import Verdict

__all__ = ["ABOUT", "CLIENTS", "NAME", "SYNCHRONOUS", "WORKS", "Choice", "NotADiskError", "environment", "run"]

NAME = "sqlite"
ABOUT = "a bus in a file beside bare sqlite3 loops, persist-queue, litequeue and huey, with the targets"


def run(plan: Plan, choice: Choice) -> Iterator[Result | Absent | Verdict | str]:
    """Compare; gives a result per work and client, then what the clients lack, and whether the targets are met.

    ``plan.repeats`` are the rounds. ``plan.amount.seconds`` is about how long a sample lasts; without it every sample
    has ``plan.amount.messages``. ``plan.quick`` leaves out ``NORMAL``, the round that warms up and the million.

    :raises NotADiskError: the folder is in memory.
    """
    # Not above: this file is imported by the clients too, in an environment of their own.
    from benchmarks.sqlite.rounds import compare

    return compare(plan, choice)


def environment(choice: Choice) -> dict[str, str]:
    """What the numbers depend on.

    :raises NotADiskError: the folder is in memory.
    """
    from benchmarks.sqlite.rounds import environment

    return environment(choice)
