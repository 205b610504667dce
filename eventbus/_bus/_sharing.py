"""Sharing partitions among the processes of a group: who has too many leaves some to the others.

A queue with a single active consumer belongs to the consumer that came first, until that one goes. So the first process
to start gets all of them, and one that joins gets none. Therefore each process counts the others now and then, and what
it has above its share it leaves to the next in line, and joins the line again at its end.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from eventbus._message import Incoming
from eventbus._partitions import surplus
from eventbus.transport import AsyncLink, ConsumerSpec, SyncLink

if TYPE_CHECKING:
    from eventbus._bus._ordered import Ordered

LOOK_SECONDS = 2.0

STAY_SECONDS = 15.0
"""A queue that has just come stays at least so long: it must not wander while a dead process is still counted."""


class Sharing:
    """Looks after the share of one subscription."""

    def __init__(self, ordered: Ordered, link: SyncLink | AsyncLink, members: ConsumerSpec, partitions: int) -> None:
        self._ordered = ordered
        self._link = link
        self._members = members
        self._partitions = partitions

    def start(self) -> None:
        """Be counted, and count."""
        self._link.consume(self._members, self)
        self._later()

    def _later(self) -> None:
        self._link.later(LOOK_SECONDS * random.uniform(0.75, 1.25), self._look)

    def _look(self) -> None:
        if self._ordered.halted:
            return
        self._later()
        if len(self._ordered.held_since()) > 1:  # one alone is never too many
            self._link.count_consumers(self._members.queue.name, self._counted)

    def _counted(self, members: int | None) -> None:
        if members is not None and not self._ordered.halted:
            excess = surplus(len(self._ordered.held_since()), self._partitions, members)
            if excess:
                self._ordered.hand_over(excess, time.monotonic() - STAY_SECONDS)

    def delivered(self, incoming: Incoming, /) -> None:
        """Nobody has a reason to send anything here, and the broker has forgotten it."""

    def started(self, queue: str, /) -> None:
        """Nothing to do."""

    def stopped(self, error: Exception | None, /) -> None:
        """Nothing to do: the link starts it again."""
