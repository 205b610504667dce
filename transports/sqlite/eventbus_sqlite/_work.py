"""What a link asks of its engine: publishes, settlements, and tasks within a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable

from eventbus._errors import NotSent, PublishError
from eventbus.transport import Ack, Incoming, Message, Settlement

from ._holding import Claim
from ._store import Store

Effect = Callable[[], None]
"""What is done after the commit, by the engine's thread; what concerns listeners it posts."""


class Publish:
    """A message on its way into the file."""

    __slots__ = ("deadline", "done", "message")

    def __init__(self, message: Message, deadline: float, done: Callable[[PublishError | None], None]) -> None:
        self.message = message
        self.deadline = deadline
        self.done: Callable[[PublishError | None], None] | None = done

    def finish(self, outcome: PublishError | None) -> None:
        """Tell the outcome; only the first one counts."""
        done, self.done = self.done, None
        if done is not None:
            done(outcome)

    def late(self) -> bool:
        """Whether its deadline has passed."""
        return time.monotonic() > self.deadline


class Settle:
    """A settlement of a delivery."""

    __slots__ = ("claim", "incoming", "settlement")

    def __init__(self, claim: Claim, incoming: Incoming, settlement: Settlement) -> None:
        self.claim = claim
        self.incoming = incoming
        self.settlement = settlement

    @property
    def is_ack(self) -> bool:
        """Whether it can be carried out together with others."""
        return type(self.settlement) is Ack


class Task:
    """Anything else: ``run`` is called within a transaction, once or more; what it gives is done after the commit.

    Nothing is done after the ``last`` one.
    """

    __slots__ = ("last", "run")

    def __init__(self, run: Callable[[Store], Effect | None], *, last: bool = False) -> None:
        self.run = run
        self.last = last


Work = Publish | Settle | Task

Tell = Callable[[Publish, PublishError], None]
"""Gives a publish its outcome, where listeners are called."""


def fail_late(works: list[Work], reason: str, tell: Tell) -> list[Work]:
    """The works that still have time; of publishes that have not is told that nothing was written."""
    kept = []
    for work in works:
        if isinstance(work, Publish) and work.late():
            tell(work, NotSent(f"not written by its deadline: {reason}"))
        else:
            kept.append(work)
    return kept
