"""The world outside of a bus: a bare link that publishes, and looks into queues, as other programs would."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

from eventbus._errors import PublishError
from eventbus._ids import uuid7
from eventbus.testing._eventually import eventually
from eventbus.transport import (
    Ack,
    ConsumerSpec,
    Incoming,
    LinkSettings,
    LinkStatus,
    Message,
    Queue,
    Requeue,
    SyncLink,
    Transport,
)


class Arrivals:
    """A consumer of a test's own: what has come to its queue, in order."""

    def __init__(self, link: SyncLink, *, settle: bool) -> None:
        self._link = link
        self._settle = settle
        self.all: list[Incoming] = []

    def delivered(self, incoming: Incoming, /) -> None:
        """Keep it; acknowledge it where the test does not."""
        self.all.append(incoming)
        if self._settle:
            self._link.settle(incoming, Ack())

    def started(self, queue: str, /) -> None:
        """Nothing to do."""

    def stopped(self, error: Exception | None, /) -> None:
        """Nothing to do."""

    def wait(self, count: int = 1, timeout: float = 10.0) -> list[Incoming]:
        """The arrivals, once there are ``count``."""
        eventually(lambda: len(self.all) >= count, timeout, what=f"{count} arrivals")
        return self.all

    def messages(self, count: int = 1, timeout: float = 10.0) -> list[Message]:
        """Their messages."""
        return [incoming.message for incoming in self.wait(count, timeout)]


class Outside:
    """A link without a bus."""

    def __init__(self, transport: Transport, name: str) -> None:
        self.link = transport.sync_link(LinkSettings(service=name), _ignore)
        self._number = 0
        self.link.open()
        self.link.wait_ready(20.0)

    def message(self, **fields: Any) -> Message:
        """A message without CloudEvents attributes, as a foreign client sends it, with ``fields`` set."""
        return Message(**{"exchange": "", "id": uuid7(), "type": "", "time": time.time(), "body": b"{}", **fields})

    def publish(self, message: Message, timeout: float = 10.0) -> PublishError | None:
        """Publish one message; its outcome."""
        outcome: queue.SimpleQueue[PublishError | None] = queue.SimpleQueue()
        done: Callable[[PublishError | None], None] = outcome.put
        self.link.publish(message, deadline=time.monotonic() + timeout, done=done)
        return outcome.get(timeout=timeout + 5.0)

    def consume(self, given: Queue | str, *, settle: bool = True, prefetch: int = 100, **spec: Any) -> Arrivals:
        """Consume a queue, declared as described."""
        self._number += 1
        arrivals = Arrivals(self.link, settle=settle)
        described = Queue(name=given) if isinstance(given, str) else given
        self.link.consume(
            ConsumerSpec(name=f"outside-{self._number}", queue=described, prefetch=prefetch, **spec), arrivals
        )
        self.link.wait_ready(20.0)
        return arrivals

    def dead_letters(self, queue: str) -> Arrivals:
        """What is dead-lettered from ``queue``, from now on and before."""
        return self.consume(Queue.of_dead_letters(queue))

    def give_back(self, incoming: Incoming) -> None:
        """Return an arrival to its queue."""
        self.link.settle(incoming, Requeue())

    def close(self) -> None:
        """End it, as a crash would: what it holds unsettled goes back."""
        self.link.close(2.0)


def _ignore(status: LinkStatus) -> None:
    """Nobody wants to know."""
