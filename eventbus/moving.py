"""Moving: messages that wait in a group's queues are carried over to another broker.

::

    from eventbus.moving import Move

    report = Move("sqlite:///bus.db", "amqps://bus.example/shop", group="emails").run()
    print(report.moved, "moved;", report.left, "left:", report.problems)

``eventbus move`` does the same from the command line (docs/moving.md).
"""

from __future__ import annotations

from eventbus._moving._async import AsyncMove
from eventbus._moving._sync import Move
from eventbus._moving._values import MovedQueue, MoveReport

__all__ = ["AsyncMove", "Move", "MoveReport", "MovedQueue"]
