"""A move as values: what is meant, and what has become of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

NOTHING: Mapping[str, int] = {}


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages are meant: those of ``queues``, else of all queues that are known, or of those of ``group``.

    ``dead_letters`` means the dead-letter queues beside them too, ``scheduled`` the delayed messages that are not in
    any queue yet.
    """

    queues: tuple[str, ...] = ()
    group: str | None = None
    dead_letters: bool = False
    scheduled: bool = False


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A queue to be moved; ``expected`` if it is an error that the source does not have it.

    A ``kind`` of ``dead`` is a dead-letter queue, with the queues in ``sources`` that fill it; ``scheduled`` is no
    queue, but what is on its way to an exchange.
    """

    name: str
    kind: Literal["queue", "dead", "scheduled"] = "queue"
    expected: bool = False
    sources: tuple[str, ...] = ()


class MovedQueue(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one queue: how many messages were ``moved``, and how many of these ``marked`` as redelivered.

    ``left`` stayed because of a problem. In a dry run ``moved`` is how many there are.
    """

    name: str
    moved: int = 0
    marked: int = 0
    left: int = 0


class MoveReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a move did.

    ``problems`` says why messages were left, each reason once. ``missing`` names queues that the source does not have,
    ``shared`` those with other consumers there: what those hold is not moved. ``beside`` counts messages that were not
    meant, where the source can tell: dead letters of the same queues, and delayed messages. ``interrupted``: it was
    stopped, or has reached its limit, before the queues were empty.
    """

    queues: tuple[MovedQueue, ...] = ()
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    beside: Mapping[str, int] = NOTHING
    interrupted: bool = False
    dry_run: bool = False

    @property
    def moved(self) -> int:
        """Messages that were moved, of all queues."""
        return sum(queue.moved for queue in self.queues)

    @property
    def marked(self) -> int:
        """Messages that were moved with the mark of a redelivery."""
        return sum(queue.marked for queue in self.queues)

    @property
    def left(self) -> int:
        """Messages that stayed because of a problem."""
        return sum(queue.left for queue in self.queues)
