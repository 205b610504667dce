"""Looking into queues: what a link has beside the rest, for the tools that need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import msgspec

SCHEDULED = "eventbus.scheduled"
"""Not a queue, but named as one where a link lists queues: the delayed messages that are on their way to an exchange.

An ``inspect`` consumer of it is handed them with exchange, topic and ``deliver_at`` as published.
"""


class QueueCount(msgspec.Struct, frozen=True, kw_only=True):
    """What a broker says of a queue: messages that wait, without those at consumers, and the number of consumers.

    Messages that wait for a retry count where an ``inspect`` consumer of the queue is handed them.
    """

    ready: int
    consumers: int


@runtime_checkable
class InspectsQueues(Protocol):
    """What a link has beside the rest, if queues can be looked into: what the tools for dead letters need.

    For a consumer with ``inspect`` the link declares nothing: a queue that does not exist is a TopologyMismatch, and
    the consumer is not tried again. Messages come as they lie in the queue, with all headers that brokers and copies
    have, and with an empty id if they came without. Where the link knows it, ``ttl`` is what is left of the time to
    live. A link may hand out, after the messages that are ready, those that wait for a retry, with ``deliver_at``.
    """

    def count(self, consumer: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """Ask the broker about the queue of one of the link's consumers.

        It answers when it has carried out the settlements given before. If the consumer is lost meanwhile, ``done`` may
        not be called.
        """


@runtime_checkable
class CountsQueues(Protocol):
    """What a link has beside the rest, if it can be asked about queues that it does not consume."""

    def count_queue(self, queue: str, done: Callable[[QueueCount | Exception], None]) -> None:
        """Ask the broker about a queue by its name. ``done`` gets TopologyMismatch where it does not exist.

        If the connection is lost meanwhile, ``done`` may not be called.
        """


@runtime_checkable
class ListsQueues(Protocol):
    """What a link has beside the rest, if it can tell which queues there are."""

    def list_queues(self, done: Callable[[Mapping[str, QueueCount] | Exception], None]) -> None:
        """Ask the broker for its queues: those with a name of their own, that outlive their consumers.

        :data:`SCHEDULED` is among them where the link hands out such messages.
        """
