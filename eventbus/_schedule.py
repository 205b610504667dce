"""Scheduled publishing: when a message shall be handed to its queues."""

from __future__ import annotations

from datetime import datetime

from eventbus._errors import ConfigurationError

LONGEST = 366 * 86400.0


def due_at(delay: float | None, deliver_at: datetime | None, now: float) -> float | None:
    """The time of delivery in Unix seconds, from what the caller said; None is at once.

    :raises ConfigurationError: both were said, the time has no time zone, or it is more than a year away.
    """
    if delay is None and deliver_at is None:
        return None
    if delay is not None and deliver_at is not None:
        raise ConfigurationError("delay and deliver_at say the same thing: give one of them")
    if deliver_at is not None:
        if deliver_at.tzinfo is None:
            raise ConfigurationError("deliver_at needs a time zone: datetime.now(UTC) + ..., for instance")
        delay = deliver_at.timestamp() - now
    assert delay is not None
    if not (delay <= LONGEST and (deliver_at is not None or delay >= 0)):
        raise ConfigurationError("a delay is seconds from 0 to 366 days")
    return now + delay if delay > 0 else None
