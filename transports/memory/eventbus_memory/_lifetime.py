"""When queues come and go: declared, deleted, or expired because nobody used them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from eventbus._topology import dead_letter_queue
from eventbus.transport import Queue

from ._clock import Cancellable, Clock
from ._queue import Consumer, Queued
from ._tables import Tables


class Lifetimes(Tables):
    """The tables, with time. ``outbox`` collects callbacks, ``later`` makes a call under the broker's lock."""

    def __init__(
        self, clock: Clock, default_type: str, later: Callable[[float, Callable[[], None]], Cancellable]
    ) -> None:
        super().__init__(default_type)
        self.clock = clock
        self.outbox: deque[tuple[Callable[[Any], None], Any]] = deque()
        self.repliers: dict[str, Consumer] = {}
        self.later = later

    def declare(self, queue: Queue, owner: object | None = None) -> str:
        """Declare a queue and, if there is none of that name, its dead-letter queue; gives its name."""
        if queue.dead_letter is not None and queue.dead_letter not in self.queues:
            self.declare_queue(dead_letter_queue(queue), owner, self.clock.now())
        queued, new = self.declare_queue(queue, owner, self.clock.now())
        if new:
            self.watch_use(queued)
        return queued.name

    def delete_queue(self, queue: Queued) -> None:
        """Delete the queue with its messages; its consumers hear of it."""
        queue.deleted = True
        if queue.expiry is not None:
            queue.expiry.cancel()
        self.remove_queue(queue)
        queue.ready.clear()
        for consumer in tuple(queue.consumers):
            queue.remove(consumer, self.clock.now())
            if consumer.gone is not None:
                self.outbox.append((consumer.gone, queue.name))

    def watch_use(self, queue: Queued) -> None:
        """Delete the queue when it was unused for as long as it says: no consumer, no get, not declared again."""
        if queue.properties.expires is not None and not queue.consumers:
            self.later(queue.used + queue.properties.expires, partial(self._delete_unused, queue))

    def _delete_unused(self, queue: Queued) -> None:
        if queue.deleted or queue.consumers or queue.properties.expires is None:
            return
        if self.clock.now() >= queue.used + queue.properties.expires:
            self.delete_queue(queue)
        else:
            self.watch_use(queue)
