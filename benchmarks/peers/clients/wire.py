"""Just enough of AMQP 0-9-1 over a plain blocking socket for the ceiling, and for the orchestrator's set-up."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Self
from urllib.parse import unquote, urlsplit

FRAME_MAX = 131072
CHANNEL = 1
END = 0xCE
PLAIN_PORT = 5672

METHOD, HEADER, BODY = 1, 2, 3
CONNECTION_CLOSE, CHANNEL_CLOSE, CLOSED = (10, 50), (20, 40), (10, 51)
READ = 1 << 20
PERSISTENT = 2

_FRAME = struct.Struct(">BHI")
_ID = struct.Struct(">HH")


class Refused(ConnectionError):
    """The broker closed the connection or the channel, or answered something else."""


def short(text: str) -> bytes:
    """A short string."""
    raw = text.encode()
    return bytes([len(raw)]) + raw


def table(values: Mapping[str, str | int]) -> bytes:
    """A table of strings and numbers."""
    content = bytearray()
    for name, value in values.items():
        content += short(name)
        if isinstance(value, int):
            content += struct.pack(">ci", b"I", value)
        else:
            raw = value.encode()
            content += struct.pack(">cI", b"S", len(raw)) + raw
    return struct.pack(">I", len(content)) + bytes(content)


def frame(kind: int, payload: bytes, channel: int = CHANNEL) -> bytes:
    """One frame."""
    return _FRAME.pack(kind, channel, len(payload)) + payload + bytes([END])


def method(class_id: int, method_id: int, arguments: bytes = b"", channel: int = CHANNEL) -> bytes:
    """One method frame."""
    return frame(METHOD, _ID.pack(class_id, method_id) + arguments, channel)


def message(exchange: str, key: str, properties: bytes, body: bytes, frame_max: int = FRAME_MAX) -> bytes:
    """All frames of a mandatory publish; ``properties`` with their flags."""
    size = frame_max - 8
    publish = method(60, 40, b"\0\0" + short(exchange) + short(key) + b"\1")
    header = frame(HEADER, struct.pack(">HHQ", 60, 0, len(body)) + properties)
    return publish + header + b"".join(frame(BODY, body[at : at + size]) for at in range(0, len(body), size))


def properties(content_type: str, headers: Mapping[str, str], id: str, timestamp: int, type: str, app: str) -> bytes:
    """The properties that eventbus sends; persistent."""
    flags = 0x8000 | 0x2000 | 0x1000 | 0x0080 | 0x0040 | 0x0020 | 0x0008
    parts = (short(content_type), table(headers), bytes([PERSISTENT]), short(id), struct.pack(">Q", timestamp))
    return struct.pack(">H", flags) + b"".join(parts) + short(type) + short(app)


class Wire:
    """A connection with one channel. Everything blocks."""

    def __init__(self, url: str, patience: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "amqp":
            raise ValueError("the peers are compared over amqp:// without TLS")
        self.socket = socket.create_connection((parts.hostname or "localhost", parts.port or PLAIN_PORT), patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.frame_max = FRAME_MAX
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        self._handshake(user, password, unquote(parts.path[1:]) or "/")

    def _handshake(self, user: str, password: str, vhost: str) -> None:
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.expect(10, 10)
        secret = f"\0{user}\0{password}".encode()
        # Without capabilities: then the broker sends no consumer cancel notifications and no blocked notices.
        started = table({}) + short("PLAIN") + struct.pack(">I", len(secret)) + secret + short("en_US")
        self.socket.sendall(method(10, 11, started, 0))
        channels, most, _ = struct.unpack(">HIH", self.expect(10, 30))
        self.frame_max = min(FRAME_MAX, most or FRAME_MAX)
        self.socket.sendall(method(10, 31, struct.pack(">HIH", channels, self.frame_max, 0), 0))
        self.socket.sendall(method(10, 40, short(vhost) + b"\0\0", 0))
        self.expect(10, 41)
        self.ask(20, 10, b"\0", 11)

    def ask(self, class_id: int, method_id: int, arguments: bytes, answer: int) -> bytes:
        """Send a method and wait for its answer; gives the answer's arguments."""
        self.socket.sendall(method(class_id, method_id, arguments))
        return self.expect(class_id, answer)

    def expect(self, class_id: int, method_id: int) -> bytes:
        """The arguments of the next method, which has to be this one."""
        kind, payload = self.next()
        if kind == METHOD and _ID.unpack_from(payload) == (class_id, method_id):
            return payload[4:]
        raise Refused(why(kind, payload))

    def next(self) -> tuple[int, bytes]:
        """Kind and payload of the next frame."""
        while True:
            if len(self.buffer) >= _FRAME.size:
                kind, _, length = _FRAME.unpack_from(self.buffer)
                whole = _FRAME.size + length + 1
                if len(self.buffer) >= whole:
                    payload = bytes(self.buffer[_FRAME.size : whole - 1])
                    del self.buffer[:whole]
                    return kind, payload
            self.buffer += self.read()

    def read(self) -> bytes:
        """What has come.

        :raises Refused: the connection is closed.
        """
        read = self.socket.recv(READ)
        if not read:
            raise Refused("the broker closed the connection")
        return read

    def declare(self, queue: str, arguments: Mapping[str, str | int]) -> None:
        """A durable queue."""
        self.ask(50, 10, b"\0\0" + short(queue) + b"\2" + table(arguments), 11)

    def declare_topic(self, exchange: str) -> None:
        """A durable topic exchange."""
        self.ask(40, 10, b"\0\0" + short(exchange) + short("topic") + b"\2" + table({}), 11)

    def bind(self, queue: str, exchange: str, key: str) -> None:
        """Let the queue take messages of this key."""
        self.ask(50, 20, b"\0\0" + short(queue) + short(exchange) + short(key) + b"\0" + table({}), 21)

    def purge(self, queue: str) -> int:
        """Empty the queue; gives how many ready messages there were."""
        return int.from_bytes(self.ask(50, 30, b"\0\0" + short(queue) + b"\0", 31), "big")

    def delete(self, queue: str) -> None:
        """Delete the queue; there need not be one."""
        self.ask(50, 40, b"\0\0" + short(queue) + b"\0", 41)

    def close(self) -> None:
        """In order, so that the broker does not log a lost client."""
        try:
            self.socket.sendall(method(10, 50, b"\0\xc8" + short("") + b"\0\0\0\0", 0))
            while True:
                kind, payload = self.next()
                if kind == METHOD and _ID.unpack_from(payload) == CLOSED:
                    break
        except OSError:
            pass
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def why(kind: int, payload: bytes) -> str:
    """What the broker says in this frame, for an error."""
    if kind == METHOD and _ID.unpack_from(payload) in (CONNECTION_CLOSE, CHANNEL_CLOSE):
        return payload[7 : 7 + payload[6]].decode(errors="replace")
    return f"unexpected frame of kind {kind}: {payload[:40].hex()}"
