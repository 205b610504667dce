"""Dead letters: messages that a group has given up, kept with the reason in a queue beside the group's own.

::

    from eventbus.dead_letters import DeadLetterFilter, DeadLetters

    letters = DeadLetters(bus)                      # or a URL and queues=["emails.customers.registered"]
    for dead in letters.list(DeadLetterFilter(error_type="SMTPError")):
        print(dead.id, dead.reason, dead.error)
    letters.replay(DeadLetterFilter(error_type="SMTPError"), rate=20)

``eventbus dead-letters`` does the same from the command line (docs/dead-letters.md).
"""

from __future__ import annotations

from eventbus._dead_letters._async import AsyncDeadLetters
from eventbus._dead_letters._sync import DeadLetters
from eventbus._dead_letters._values import (
    DeadLetterFilter,
    DeadLetterGroup,
    DeadLetterQueue,
    DeadLetterReport,
    DeadMessage,
    FoundDeadLetters,
    GroupedDeadLetters,
)

__all__ = [
    "AsyncDeadLetters", "DeadLetterFilter", "DeadLetterGroup", "DeadLetterQueue", "DeadLetterReport", "DeadLetters",
    "DeadMessage", "FoundDeadLetters", "GroupedDeadLetters",
]  # fmt: skip
