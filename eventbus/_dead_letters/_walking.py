"""Going through a dead-letter queue over a link: written once, as generators that yield what they wait for.

A look at a queue consumes it with settlement by hand, and gives everything back in the end, in order, so that the
queue is as it was. Consumers are opened as they fill up, one after the other: a page of messages each. What they hold
stays at the broker, so the memory needed does not grow with the queue.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from eventbus._errors import ConfigurationError, ConnectionFailed, PublishError
from eventbus._message import Incoming, Message
from eventbus._settlement import ACK
from eventbus._steps import ANSWER_SECONDS, Ready, Steps, Stop, Wait, answer
from eventbus._topology import Queue
from eventbus.transport import AsyncLink, ConsumerSpec, InspectsQueues, QueueCount, SyncLink

FIRST_PAGE, LONGEST_PAGE = 20, 1000
PAGE_BYTES = 64 * 1024 * 1024
"""What a page may hold, by the largest body seen so far."""

LOOK_AGAIN_SECONDS = 0.01
OTHERS_SECONDS = 1.0
BACK_SECONDS = 2.0
RENEW_SECONDS = 600.0
"""After so long everything is given back, and looked at anew: RabbitMQ waits half an hour for a settlement."""


class Arrivals:
    """What a link reports of its consumers, for the generator to find. Called on the link's thread or loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.waiting: deque[Incoming] = deque()
        self._lost: Exception | None = None

    def delivered(self, incoming: Incoming, /) -> None:
        """A message has come."""
        self.waiting.append(incoming)
        self.wake()

    def started(self, queue: str, /) -> None:
        """A consumer runs; the link says so too."""

    def stopped(self, error: Exception | None, /) -> None:
        """A consumer is gone, and what it held is back in its queue."""
        if error is not None:
            self._lost = error
            self.wake()

    def check(self) -> None:
        """:raises ConnectionFailed: a consumer was lost: what it had brought cannot be settled any more."""
        if self._lost is not None:
            raise ConnectionFailed(f"lost while going through dead letters: {self._lost}") from self._lost


class Visitor(Protocol):
    """What is done with the messages of a walk."""

    @property
    def full(self) -> bool:
        """Whether no more are wanted."""

    @property
    def again(self) -> bool:
        """Whether it does no harm to show it a message for the second time."""

    def visit(self, incoming: Incoming, walk: Walk) -> Steps[bool]:
        """Do it with one; gives whether it is settled."""


class Walk:
    """One way through one queue, over a link of its own."""

    def __init__(self, link: SyncLink | AsyncLink, queue: str, arrivals: Arrivals) -> None:
        if not isinstance(link, InspectsQueues):
            raise ConfigurationError("this transport cannot look into queues, so it shows no dead letters")
        self._link = link
        self._inspector: InspectsQueues = link
        self._queue = queue
        self._arrivals = arrivals
        self._pages: list[int] = []
        self.shared = False
        """Whether there were consumers beside ours."""
        self.finished = False
        """Whether all was looked at, or enough; else another walk goes on."""

    def steps(self, visitor: Visitor) -> Steps[int]:
        """Show the messages that are there now to the visitor, in order; gives how many that were.

        :raises TopologyMismatch: the queue does not exist.
        """
        self._link.open()
        seen = yield from self._look(visitor)
        yield from self._give_back()
        return seen

    def _look(self, visitor: Visitor) -> Steps[int]:
        page, largest, seen, most = FIRST_PAGE, 0, 0, -1
        until = time.monotonic() + RENEW_SECONDS if visitor.again else math.inf
        while True:
            yield from self._turn_page(page)
            if most < 0:
                # What comes later is not waited for: a group that goes on failing would keep us here for ever.
                most = page + (yield from self.count()).ready
            held = 0
            while held < page:
                if time.monotonic() > until:
                    return seen
                incoming = None if visitor.full or seen >= most else (yield from self._next())
                if incoming is None:
                    self.finished = True
                    return seen
                seen += 1
                largest = max(largest, len(incoming.message.body))
                settled = yield from visitor.visit(incoming, self)
                held += not settled
            page = next_page(largest)

    def publish(self, message: Message, timeout: float) -> Steps[PublishError | None]:
        """Publish; gives the error, or None for confirmed."""
        outcome: list[PublishError | None] = []

        def done(error: PublishError | None) -> None:
            outcome.append(error)
            self._arrivals.wake()

        self._link.publish(message, deadline=time.monotonic() + timeout, done=done)
        while not outcome:
            # Without its dead letter to ack it must not be sent again, as the link would on its next connection.
            self._arrivals.check()
            yield Wait(1.0)
        return outcome[0]

    def count(self) -> Steps[QueueCount]:
        """Ask the broker what is left; when it answers, it has carried out the settlements given so far."""
        what = f"how many messages wait in {self._queue!r}"
        ask = partial(self._inspector.count, self._consumer)
        found: QueueCount = yield from answer(ask, self._arrivals.wake, self._arrivals.check, what)
        return found

    def ack(self, incoming: Incoming) -> None:
        """Settle one for good."""
        self._link.settle(incoming, ACK)

    @property
    def _consumer(self) -> str:
        return f"page-{len(self._pages)}"

    def _give_back(self) -> Steps[None]:
        """One page after the other: several channels that are closed together give back in no order (seen on 3.10)."""
        yield Stop(self._link)
        for number, size in enumerate(self._pages[:-1]):
            before = yield from self.count()
            self._link.release(f"page-{number + 1}")
            # A stopped consumer counts as long as it holds something. Where there are others, order is lost anyway.
            alone = before.consumers <= len(self._pages) - number
            until = time.monotonic() + BACK_SECONDS
            while alone and time.monotonic() < until:
                if (yield from self.count()).ready >= before.ready + size:
                    break
                yield Wait(LOOK_AGAIN_SECONDS)

    def _turn_page(self, prefetch: int) -> Steps[None]:
        self._pages.append(prefetch)
        spec = ConsumerSpec(name=self._consumer, queue=Queue(name=self._queue), prefetch=prefetch, inspect=True)
        self._link.consume(spec, self._arrivals)
        yield Ready(self._link)

    def _next(self) -> Steps[Incoming | None]:
        """The next message; None when there is none left.

        Nothing waits in the queue, says the broker twice, and nothing has come: then what was on its way has come too.
        """
        waiting, empty, began = self._arrivals.waiting, 0, time.monotonic()
        while True:
            self._arrivals.check()
            if waiting:
                return waiting.popleft()
            left = yield from self.count()
            if waiting:
                continue
            passed = time.monotonic() - began
            if left.ready:
                empty = 0
                if passed > ANSWER_SECONDS:
                    raise ConnectionFailed(f"the broker hands out none of the {left.ready} messages in {self._queue!r}")
            elif left.consumers > len(self._pages) and passed < OTHERS_SECONDS:
                # Perhaps one that has just been closed, whose messages are on their way back.
                empty = 0
            else:
                empty += 1
                if empty == 2:
                    self.shared = self.shared or left.consumers > len(self._pages)
                    return None
            yield Wait(LOOK_AGAIN_SECONDS)


def next_page(largest: int) -> int:
    """How many messages to take more, where the largest so far has so many bytes."""
    return max(FIRST_PAGE, min(LONGEST_PAGE, PAGE_BYTES // max(1, largest)))
