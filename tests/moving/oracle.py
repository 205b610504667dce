"""The judge of a move: every confirmed message is handled, and none twice without the mark of a redelivery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from eventbus import Delivery


def judge(confirmed: Iterable[str], handled: Iterable[Delivery]) -> int:
    """Checks it; gives how many were handled more than once."""
    times: Counter[str] = Counter()
    unmarked: Counter[str] = Counter()
    for delivery in handled:
        times[delivery.id] += 1
        unmarked[delivery.id] += not (delivery.redelivered or delivery.attempt > 1)
    lost = [id_ for id_ in confirmed if id_ not in times]
    assert not lost, f"{len(lost)} were lost"
    twice = [id_ for id_, count in unmarked.items() if count > 1]
    assert not twice, f"{len(twice)} were handled twice without a mark"
    return sum(count > 1 for count in times.values())
