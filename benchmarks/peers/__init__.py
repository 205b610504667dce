"""peers: the same work done by eventbus, by other clients and by a plain socket, side by side in one run.

Clients run one after the other, each in a process of its own, and take turns in every round: what else goes on at the
machine meets all of them. Every rate is also given as a part of the ceiling's in the same round.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.peers.registry import CLIENTS, WORKS, Absent, Choice
from benchmarks.runner import Plan, Result

__all__ = ["ABOUT", "CLIENTS", "NAME", "WORKS", "Absent", "Choice", "run"]

NAME = "peers"
ABOUT = "the same work by eventbus, by other clients and by a plain socket (the ceiling), side by side"

EVERYTHING = Choice()


def run(plan: Plan, choice: Choice = EVERYTHING) -> Iterator[Result | Absent]:
    """Compare; gives a result per work and client, and says who could not take part, and why.

    ``plan.repeats`` are the rounds. ``plan.amount.seconds`` is about how long a sample lasts; without it every sample
    has ``plan.amount.messages``. ``plan.quick`` leaves out large bodies, unless ``choice`` names the works, and the
    round that warms up. Only ``amqp://`` without TLS is compared.
    """
    # Not above: this file is imported by the clients too, in environments of their own.
    from benchmarks.peers.rounds import compare

    return compare(plan, choice)
