"""The transport: which broker its links share."""

from __future__ import annotations

import threading
import weakref
from typing import Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from eventbus._errors import ConfigurationError
from eventbus.transport import Capabilities, LinkSettings, LinkStatus, StatusListener

from ._broker import MemoryBroker
from ._clock import Clock
from ._faults import FaultPlan
from ._links import MemoryAsyncLink, MemorySyncLink

__all__ = ["LinkStatus", "MemoryTransport"]

QueueTypeName = Literal["quorum", "classic"]

# The one global of this package: buses that are given the same URL must meet, as they would at a real
# broker, and a URL can only carry a name. Weak, so that a broker goes with its last transport and link.
_brokers: weakref.WeakValueDictionary[str, MemoryBroker] = weakref.WeakValueDictionary()
_brokers_lock = threading.Lock()


class MemoryTransport:
    """RabbitMQ's semantics in one process, without a server.

    ``name``: transports of one name share a broker; without one, the transport has a broker of its own,
    which all its links share. ``clock``: a ManualClock lets tests decide the time. ``faults``: what
    goes wrong. ``queue_type``: what a queue is that does not say so itself.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        clock: Clock | None = None,
        faults: FaultPlan | None = None,
        queue_type: QueueTypeName = "quorum",
    ) -> None:
        if queue_type not in ("quorum", "classic"):
            raise ConfigurationError(f"queue_type is quorum or classic, not {queue_type!r}")
        self.name = name
        self.faults = faults if faults is not None else FaultPlan()
        self.broker = _broker(name, clock, queue_type)
        self.faults.watch(self.broker)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``memory://``, ``memory://shop`` or ``memory://shop?queue_type=classic``."""
        parts = urlsplit(url)
        if parts.scheme != "memory":
            raise ConfigurationError("the URL of an in-memory broker begins with memory://")
        if parts.path not in ("", "/") or parts.fragment or "@" in parts.netloc:
            # The URL is not repeated: somebody may have written a password into it.
            raise ConfigurationError("a memory URL is memory://NAME?queue_type=quorum|classic, without user or path")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(set(options) - {"queue_type"})
        if unknown:
            raise ConfigurationError(f"unknown option of a memory URL: {', '.join(unknown)}; known are: queue_type")
        queue_type = options.get("queue_type", "quorum")
        if queue_type not in ("quorum", "classic"):
            raise ConfigurationError("queue_type is quorum or classic")
        return cls(name=unquote(parts.netloc), queue_type="classic" if queue_type == "classic" else "quorum")

    @property
    def capabilities(self) -> Capabilities:
        """Nothing survives the process, and nothing leaves it."""
        return Capabilities(
            durable=False,
            processes=False,
            direct_reply=True,
            schedules=True,
            counts_crashes=self.broker.queue_type == "quorum",
        )

    def sync_link(self, settings: LinkSettings, on_status: StatusListener) -> MemorySyncLink:
        """A new link for a bus of threads."""
        return MemorySyncLink(self.broker, settings, on_status, self.faults)

    def async_link(self, settings: LinkSettings, on_status: StatusListener) -> MemoryAsyncLink:
        """A new link for a bus of the running event loop."""
        return MemoryAsyncLink(self.broker, settings, on_status, self.faults)

    def __repr__(self) -> str:
        return f"MemoryTransport(name={self.name!r}, queue_type={self.broker.queue_type!r})"


def _broker(name: str | None, clock: Clock | None, queue_type: QueueTypeName) -> MemoryBroker:
    if name is None:
        return MemoryBroker(clock=clock, queue_type=queue_type)
    with _brokers_lock:
        broker = _brokers.get(name)
        if broker is None:
            broker = _brokers[name] = MemoryBroker(clock=clock, queue_type=queue_type)
        elif broker.queue_type != queue_type or (clock is not None and clock is not broker.clock):
            raise ConfigurationError(f"the in-memory broker {name!r} exists with another queue_type or clock")
    return broker
