"""The contract for transport authors: what a transport gives, what the bus asks, in which thread.

A *transport* is a value made from a URL; it does no I/O. It makes *links*: one live attachment of one
bus to the broker, for threads (:class:`SyncLink`) or for one event loop (:class:`AsyncLink`). The two
have the same methods; only those that wait differ by ``async``.

Rules for a link:

* **Desired state.** ``declare`` and ``consume`` say what shall exist. The link makes it so whenever it is
  connected, and again after every reconnect; one entity that fails never stops the others.
* **One outcome.** ``publish`` calls ``done`` exactly once, with ``None`` (confirmed) or a PublishError, at
  the latest shortly after ``deadline`` (``time.monotonic()`` seconds). Unroutable messages are an error here; the
  bus decides whether its caller hears of it. Messages published by one thread keep their order.
* **Callbacks are quick** and run on the link's own thread (sync) or loop (async); ``done`` may also run in
  the caller. A sync link never runs user code: the bus hands deliveries to its workers.
* **Settle once.** ``settle`` may be called from any thread (sync). A settlement of a lost connection is
  dropped and counted. ``RetryIn`` and ``DeadLetter`` put the copy in its place before the original is acked.
* **Order.** A queue hands out its messages in order, and what goes back to it goes in front. What an ``ordered``
  consumer holds goes back in one step (``release``, or the link's end), so that nobody gets a later message before.
* **Closing is bounded.** ``close(timeout)`` returns in ``timeout`` seconds in every state of the broker, calls
  every open ``done``, and leaves no thread, task or socket behind. It is idempotent.

The suite in :mod:`eventbus.testing` checks these rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, Self, runtime_checkable

import msgspec

from eventbus._errors import PublishError
from eventbus._inspection import SCHEDULED, CountsQueues, InspectsQueues, ListsQueues, QueueCount
from eventbus._message import HeaderValue, Incoming, Message
from eventbus._secrets import CredentialsSource
from eventbus._settlement import (
    Ack,
    DeadLetter,
    Origin,
    Requeue,
    RetryIn,
    Settlement,
    dead_letter_copy,
    restore_origin,
    retry_copy,
)
from eventbus._supervisor import Phase
from eventbus._tls import TLSConfig
from eventbus._topology import Binding, Exchange, Queue, Topology

__all__ = [
    "SCHEDULED",
    "Ack",
    "AsyncLink",
    "Binding",
    "Capabilities",
    "ConsumerListener",
    "ConsumerSpec",
    "ConsumerStatus",
    "CountsQueues",
    "DeadLetter",
    "Exchange",
    "HeaderValue",
    "Incoming",
    "InspectsQueues",
    "LinkSettings",
    "LinkStatus",
    "ListsQueues",
    "Message",
    "Origin",
    "Phase",
    "PublishesInCaller",
    "Queue",
    "QueueCount",
    "ReloadsTLS",
    "Requeue",
    "RetryIn",
    "SecuredTransport",
    "Settlement",
    "SyncLink",
    "Topology",
    "Transport",
    "dead_letter_copy",
    "restore_origin",
    "retry_copy",
]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a transport promises beyond the contract."""

    durable: bool
    """Confirmed messages survive a restart of the broker."""
    processes: bool
    """Buses of several processes reach each other."""
    direct_reply: bool = False
    """Has RabbitMQ's direct reply-to pseudo-queue."""
    schedules: bool = False
    """Keeps a message until its ``deliver_at``."""
    counts_crashes: bool = False
    """``attempt`` includes arrivals whose consumer died before it settled."""


class LinkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a bus tells a link. ``max_body`` bounds bodies in both directions, in bytes.

    With ``resend=False`` the link never publishes a message for the second time: what is not confirmed when the
    connection is lost ends then, with PublishUnknown, or NotSent if nothing of it has left.
    """

    service: str
    max_body: int = 16 * 1024 * 1024
    resend: bool = True


class ConsumerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer that shall run: its queue, what must exist for it, and its limits.

    ``name`` is unique on the bus. ``queue.name == ""`` is a server-named exclusive queue; bindings with
    ``queue == ""`` belong to it. ``prefetch`` is the most unsettled deliveries; ``auto_ack`` lets the
    broker forget at delivery. ``direct_reply`` consumes the broker's direct reply-to instead of a queue.
    ``replies`` marks the consumer of replies: it runs until the link is closed, because handlers that finish
    while a bus drains still wait for answers. ``ordered`` marks one whose messages must not overtake one another: it
    runs until it is released, or the link is closed. ``inspect`` marks one that looks into a queue; see
    :class:`InspectsQueues`.
    """

    name: str
    queue: Queue
    topology: Topology = Topology()
    prefetch: int = 20
    auto_ack: bool = False
    direct_reply: bool = False
    replies: bool = False
    ordered: bool = False
    inspect: bool = False


class ConsumerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of one consumer: ``phase`` READY means that the broker has confirmed it."""

    phase: Phase
    queue: str = ""
    error: Exception | None = None


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of a link now. ``blocked`` is the broker's reason while it takes no publishes."""

    phase: Phase
    error: Exception | None = None
    blocked: str | None = None
    consumers: Mapping[str, ConsumerStatus] = {}
    unconfirmed: int = 0
    reconnects: int = 0
    stale_settlements: int = 0
    overlong: int = 0
    """Consumers with a delivery that has been open for so long that the broker will soon take it back."""
    certificate_expires: float | None = None
    """When our TLS certificate ends, in Unix seconds; None without one."""


class ConsumerListener(Protocol):
    """Where a link reports for one consumer. All are quick and never raise."""

    def delivered(self, incoming: Incoming, /) -> None:
        """A message has arrived."""

    def started(self, queue: str, /) -> None:
        """The broker has confirmed the consumer on ``queue`` (the name that it gave, if server-named)."""

    def stopped(self, error: Exception | None, /) -> None:
        """The consumer is gone; the link starts it again by itself unless it was cancelled or is terminal."""


class _Link(Protocol):
    def open(self) -> None:
        """Begin to connect, without waiting. Idempotent."""

    def declare(self, topology: Topology) -> None:
        """Add exchanges and bindings that publishing needs."""

    def publish(self, message: Message, *, deadline: float, done: Callable[[PublishError | None], None]) -> None:
        """Send one message; ``done`` gets its outcome. Never raises for the message's or the broker's sake."""

    def consume(self, spec: ConsumerSpec, listener: ConsumerListener) -> None:
        """Keep this consumer running from now on."""

    def settle(self, incoming: Incoming, settlement: Settlement) -> None:
        """Tell the broker what became of a delivery."""

    def release(self, name: str) -> None:
        """End one consumer, without waiting; nothing happens where there is none of this name.

        Once the settlements given so far are carried out, everything else that it holds goes back to its queue in one
        step with its end. Its listener hears ``stopped(None)``; then the name may be consumed again.
        """

    def count_consumers(self, queue: str, done: Callable[[int | None], None]) -> None:
        """Ask the broker how many consumers a queue has; ``done`` gets None where there is no answer."""

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call after so many seconds of the broker's time, on the link's thread or loop; not after it is closed."""

    def status(self) -> LinkStatus:
        """A snapshot, from any thread."""


class SyncLink(_Link, Protocol):
    """A link for threads: every method may be called from any thread."""

    def wait_ready(self, timeout: float) -> None:
        """Until connected and every consumer runs; raises the terminal error, or the last one at the timeout."""

    def stop_consuming(self, timeout: float) -> None:
        """Cancel all consumers but ordered ones and that of replies; no delivery comes after it to those.

        Open deliveries can still be settled.
        """

    def flush(self, timeout: float) -> bool:
        """Until the settlements given so far are written and their copies confirmed; False at the timeout."""

    def close(self, timeout: float) -> None:
        """Close within ``timeout`` seconds, whatever the broker does."""


class AsyncLink(_Link, Protocol):
    """A link for one event loop: every method is called on that loop."""

    async def wait_ready(self, timeout: float) -> None:
        """Until connected and every consumer runs; raises the terminal error, or the last one at the timeout."""

    async def stop_consuming(self, timeout: float) -> None:
        """Cancel all consumers but ordered ones and that of replies; no delivery comes after it to those.

        Open deliveries can still be settled.
        """

    async def flush(self, timeout: float) -> bool:
        """Until the settlements given so far are written and their copies confirmed; False at the timeout."""

    async def close(self, timeout: float) -> None:
        """Close within ``timeout`` seconds, whatever the broker does."""


@runtime_checkable
class PublishesInCaller(Protocol):
    """What a sync link has beside the rest, if a thread that waits for its publish anyway can do the work for it."""

    def publish_now(self, message: Message, *, deadline: float, done: Callable[[PublishError | None], None]) -> None:
        """As ``publish``, by a thread that is about to wait for the outcome: it may take until then to return."""


@runtime_checkable
class ReloadsTLS(Protocol):
    """What a link of a transport with TLS has beside the rest."""

    def reload_tls(self) -> None:
        """Connect anew with the TLS files as they are now, without waiting for it.

        :raises ConfigurationError: they cannot be used; the link goes on as it is.
        """


StatusListener = Callable[[LinkStatus], None]


@runtime_checkable
class Transport(Protocol):
    """Adapter to one kind of broker. Found by URL scheme under the entry-point group ``eventbus.transports``."""

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The transport that ``url`` describes; ConfigurationError says what is wrong with it, without secrets."""

    @property
    def capabilities(self) -> Capabilities:
        """What it promises."""

    def sync_link(self, settings: LinkSettings, on_status: StatusListener) -> SyncLink:
        """A new link for a bus of threads; ``on_status`` is called at every change of state."""

    def async_link(self, settings: LinkSettings, on_status: StatusListener) -> AsyncLink:
        """A new link for a bus of the running event loop."""


@runtime_checkable
class SecuredTransport(Protocol):
    """What a transport has beside the rest, if it takes TLS settings and credentials that no URL can say."""

    def secured(self, *, tls: TLSConfig | None, credentials: CredentialsSource | None) -> Transport:
        """The same transport with these; ConfigurationError says what does not fit."""
