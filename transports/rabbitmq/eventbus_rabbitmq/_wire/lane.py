"""The lane: takes the frames of its channels out of a connection's byte stream.

What happens per message (deliveries, confirms, returns) is parsed here; every other frame goes on, untouched
and in order, to the client library that owns the connection. Without I/O: bytes in, calls out. It fails
closed: a frame that cannot be ends the connection with a :class:`LaneError`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from eventbus_rabbitmq._wire.frames import (
    ACK,
    BLOCKED,
    CHANNEL_CLOSE,
    CHANNEL_CLOSE_OK,
    CHANNEL_OPEN_OK,
    CONNECTION_CLOSE,
    DELIVER,
    END,
    HEAD,
    HEARTBEAT_FRAME,
    METHOD,
    METHOD_ID,
    NACK,
    OVERHEAD,
    RETURN,
    UNBLOCKED,
    read_close,
    read_short,
)
from eventbus_rabbitmq._wire.tables import WireError

NEGOTIATED_LATER = 131072
ALIVE_SECONDS = 1.0


class LaneError(Exception):
    """The peer does not speak AMQP as agreed; the connection cannot go on."""


class ClosedByBroker(Exception):
    """The broker closed the connection, and said why."""

    def __init__(self, reply_code: int, reply_text: str) -> None:
        super().__init__(f"{reply_text} ({reply_code})")
        self.reply_code = reply_code
        self.reply_text = reply_text


class LaneChannel(Protocol):
    """Owner of one channel's frames."""

    def frame(self, kind: int, payload: bytes) -> bool:
        """Take a frame; False leaves it (also) to the client library."""


class Lane:
    """Demultiplexer of one connection. ``forward`` gets whole frames for the client library."""

    def __init__(
        self,
        forward: Callable[[bytes], None],
        on_blocked: Callable[[str | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.frame_max = NEGOTIATED_LATER
        self.channels: dict[int, LaneChannel] = {}
        self.closed: ClosedByBroker | None = None
        """Why the broker closed the connection, once it has said so."""
        self._forward = forward
        self._on_blocked = on_blocked
        self._clock = clock
        self._rest = bytearray()
        self._began = False
        self._forwarded_at = clock()

    def release(self, number: int) -> None:
        """Nobody owns this channel any more: content that is still under way is dropped, until it is closed."""
        if number in self.channels:
            self.channels[number] = _Released(self, number)

    def feed(self, data: bytes) -> None:
        """Take what the socket gave. :raises LaneError: it is no AMQP."""
        buffer: bytes | bytearray = data
        if self._rest:
            self._rest += data
            buffer = self._rest
        if not self._began and not self._begin(buffer):
            return
        try:
            at = self._frames(buffer)
        except WireError as error:
            raise LaneError(f"a frame of the broker could not be read: {error}") from None
        if buffer is self._rest:
            del self._rest[:at]
        else:
            self._rest += data[at:]

    def _begin(self, buffer: bytes | bytearray) -> bool:
        """The first bytes: a broker that refuses our protocol version answers with its own header."""
        if buffer[:4] == b"AMQP"[: len(buffer)]:
            if len(buffer) >= 8:
                self._forward(bytes(buffer))
                self._rest.clear()
            elif buffer is not self._rest:
                self._rest += buffer
            return False
        self._began = True
        return True

    def _frames(self, buffer: bytes | bytearray) -> int:
        size, at, kept = len(buffer), 0, 0
        limit, channels, unpack = self.frame_max, self.channels, HEAD.unpack_from
        while size - at >= OVERHEAD:
            kind, number, length = unpack(buffer, at)
            end = at + length + OVERHEAD
            if end - at > limit:
                raise LaneError(
                    f"a frame of {end - at} bytes; at most {limit} were agreed. Is this port AMQP, and TLS?"
                )
            if end > size:
                break
            if buffer[end - 1] != END:
                raise LaneError("a frame without its end mark")
            if number == 0:
                if kind == METHOD:
                    self._observe(bytes(buffer[at + 7 : end - 1]))
            else:
                channel = channels.get(number)
                if channel is not None:
                    if kept < at:  # first what came first: the library's answers before the delivery behind them
                        self._pass(bytes(buffer[kept:at]))
                        kept = at
                    if channel.frame(kind, bytes(buffer[at + 7 : end - 1])):
                        kept = end
            at = end
        if kept < at:
            self._pass(bytes(buffer[kept:at]))
        elif channels and self._clock() - self._forwarded_at > ALIVE_SECONDS:
            # The library must still believe that the connection is alive.
            self._pass(HEARTBEAT_FRAME)
        return at

    def _pass(self, data: bytes) -> None:
        self._forwarded_at = self._clock()
        self._forward(data)

    def _observe(self, payload: bytes) -> None:
        if len(payload) < 4:
            return
        method = METHOD_ID.unpack_from(payload)[0]
        if method == BLOCKED:
            self._on_blocked(read_short(payload, 4)[0])
        elif method == UNBLOCKED:
            self._on_blocked(None)
        elif method == CONNECTION_CLOSE:
            code, text, _ = read_close(payload)
            self.closed = ClosedByBroker(code, text)


class _Released:
    """A channel that its owner has left. Half a message given to the client library would end the connection."""

    def __init__(self, lane: Lane, number: int) -> None:
        self._lane = lane
        self._number = number

    def frame(self, kind: int, payload: bytes) -> bool:
        if kind != METHOD:
            return True
        method = METHOD_ID.unpack_from(payload)[0] if len(payload) >= 4 else 0
        if method in (CHANNEL_CLOSE, CHANNEL_CLOSE_OK, CHANNEL_OPEN_OK):
            self._lane.channels.pop(self._number, None)
        return method in (DELIVER, RETURN, ACK, NACK)
