"""Deliveries that stay open too long: told before the broker loses its patience.

RabbitMQ closes a channel on which a delivery is not settled within ``consumer_timeout``, 30 minutes by default, and
hands all of its deliveries out again (https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout). Those that wait
behind a slow handler count like the one that is being handled.
"""

from __future__ import annotations

import logging
from collections import deque

from eventbus_rabbitmq._acks import Acks

log = logging.getLogger("eventbus.rabbitmq")

LOOKS = 10
"""How often deliveries are looked at within the timeout."""
WARN_SHARE = 0.5


class Overlong:
    """Watches the deliveries of one channel, at no cost to each: it remembers how far the tags had come when."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._marks: deque[tuple[float, int]] = deque()
        self._warned = 0

    def look(self, acks: Acks, queue: str, now: float) -> bool:
        """Whether a delivery has been open for half of the timeout; the first look that finds it says so in the log."""
        oldest, newest = acks.open_tags()
        due = now - self._timeout * WARN_SHARE
        late = 0
        while self._marks and self._marks[0][0] <= due:
            late = self._marks[0][1]
            if len(self._marks) > 1 and self._marks[1][0] <= due:
                self._marks.popleft()
            else:
                break
        self._marks.append((now, newest))
        if oldest is None or oldest > late:
            return False
        if oldest > self._warned:
            self._warned = newest
            log.warning(
                "a delivery of queue %r has been open for more than %.0f s; after %.0f s the broker closes its channel "
                "and hands it out again: make handlers faster or give them a timeout, or lower the prefetch",
                queue, self._timeout * WARN_SHARE, self._timeout,
            )  # fmt: skip
        return True
