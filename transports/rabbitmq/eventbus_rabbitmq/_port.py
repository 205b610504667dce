"""What the engine asks of a client library: a small port, with one adapter on pika and one on aio-pika.

The engine is single-threaded and never waits: it gives callbacks. Sequences that wait for the broker (open a
channel, declare, consume) are generators that yield the operations below and get their results; each adapter
drives them its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec

from eventbus import Credentials
from eventbus_rabbitmq._wire.lane import LaneChannel

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

Channel = Any
"""A channel of the client library; the engine only hands it back."""


class OpenChannel(msgspec.Struct, frozen=True):
    """Open a channel. Result: ``(channel, number)``."""


class CloseChannel(msgspec.Struct, frozen=True):
    """Close a channel, if it is open still."""

    channel: Channel


class ConfirmSelect(msgspec.Struct, frozen=True):
    """Switch publisher confirms on."""

    channel: Channel


class DeclareExchange(msgspec.Struct, frozen=True):
    """Declare an exchange; passive only checks that it exists."""

    channel: Channel
    name: str
    kind: str
    passive: bool
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: Mapping[str, Any]


class DeclareQueue(msgspec.Struct, frozen=True):
    """Declare a queue. Result: its name."""

    channel: Channel
    name: str
    passive: bool
    durable: bool
    exclusive: bool
    auto_delete: bool
    arguments: Mapping[str, Any]


class CountQueue(msgspec.Struct, frozen=True):
    """Ask what a queue holds. Result: a QueueCount."""

    channel: Channel
    queue: str


class BindQueue(msgspec.Struct, frozen=True):
    """Bind a queue to an exchange."""

    channel: Channel
    queue: str
    exchange: str
    pattern: str
    arguments: Mapping[str, Any]


class BindExchange(msgspec.Struct, frozen=True):
    """Bind an exchange to another one, which feeds it."""

    channel: Channel
    exchange: str
    source: str
    pattern: str
    arguments: Mapping[str, Any]


class Qos(msgspec.Struct, frozen=True):
    """Limit the unsettled deliveries of each consumer of the channel (``global=False``)."""

    channel: Channel
    prefetch: int


class Consume(msgspec.Struct, frozen=True):
    """Begin to consume."""

    channel: Channel
    queue: str
    tag: str
    no_ack: bool
    exclusive: bool


class CancelConsumer(msgspec.Struct, frozen=True):
    """End consuming; when it is answered no further delivery comes."""

    channel: Channel
    tag: str


Operation = (
    OpenChannel | CloseChannel | ConfirmSelect | DeclareExchange | DeclareQueue | BindQueue | BindExchange | Qos
    | Consume | CancelConsumer | CountQueue
)  # fmt: skip

Steps = Generator[Operation, Any, T]


class Session(Protocol):
    """One open connection."""

    frame_max: int

    def attach(self, number: int, channel: LaneChannel) -> None:
        """The lane takes the frames of this channel from now on."""

    def detach(self, number: int) -> None:
        """No more; what still comes for its owner is dropped."""

    def write(self, data: bytes) -> None:
        """Send bytes; they are buffered, never waited for."""

    def buffered(self) -> int:
        """Bytes given to write that the socket has not taken yet."""

    def run(self, steps: Steps[T], done: Callable[[T | None, Exception | None], None]) -> None:
        """Drive a sequence; ``done`` gets its result or its error, ours, once, unless the connection is lost before."""

    def update_secret(self, secret: str, done: Callable[[Exception | None], None]) -> None:
        """Give the broker a new password or token; ``done`` is called unless the connection is lost before."""

    def close(self) -> None:
        """Close in order; ``lost`` is called at the end."""

    def abort(self) -> None:
        """Close the socket now; ``lost`` is called."""


class Timer(Protocol):
    """A call in the future."""

    def cancel(self) -> None:
        """Do not make it."""


class Way(NamedTuple):
    """Where to connect, as whom, and how.

    ``role`` is what the connection is for; ``server_name`` is what the broker's certificate must say.
    """

    host: str
    port: int
    role: str
    login: Credentials
    context: ssl.SSLContext | None = None
    server_name: str | None = None


class Events(Protocol):
    """What an attempt to connect, and then its session, tell. Calls come on the engine's thread or loop."""

    def opened(self, session: Session) -> None:
        """The attempt succeeded."""

    def failed(self, error: BaseException) -> None:
        """The attempt failed; the driver's error."""

    def lost(self, error: BaseException | None) -> None:
        """The session ended, by error or by our wish."""

    def blocked(self, reason: str | None) -> None:
        """The broker takes no publishes on this connection (None: it does again)."""


class Attempt(Protocol):
    """An attempt to connect under way."""

    def abort(self) -> None:
        """Give it up; nothing more is told."""


class Reactor(Protocol):
    """The engine's surroundings: time, and connections."""

    def now(self) -> float:
        """Monotonic seconds."""

    def wake(self, function: Callable[[], None]) -> None:
        """Call on the engine's thread or loop. From any thread."""

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call at the end of this turn."""

    def call_later(self, seconds: float, function: Callable[[], None]) -> Timer:
        """Call after so many seconds."""

    def connect(self, way: Way, events: Events) -> Attempt:
        """Begin to connect."""
