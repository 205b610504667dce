"""Frames of AMQP 0-9-1: the few methods that the lane reads and writes itself.

Source: AMQP 0-9-1 sections 2.3.5 (frames) and 1.8 (class basic).
"""

from __future__ import annotations

import struct

from eventbus_rabbitmq._wire.tables import MalformedData, encode_shortstr

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = 0xCE
HEAD = struct.Struct(">BHI")
OVERHEAD = 8
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"

DELIVER, RETURN, ACK, NACK, CANCEL = 0x003C003C, 0x003C0032, 0x003C0050, 0x003C0078, 0x003C001E
CHANNEL_OPEN_OK, CHANNEL_CLOSE, CHANNEL_CLOSE_OK = 0x0014000B, 0x00140028, 0x00140029
PUBLISH, CONNECTION_CLOSE = 0x003C0028, 0x000A0032
BLOCKED, UNBLOCKED = 0x000A003C, 0x000A003D

METHOD_ID = struct.Struct(">I")
CONTENT_HEAD = struct.Struct(">HHQ")
_TAG_BITS = struct.Struct(">QB")
_ACK_FRAME = struct.Struct(">BHIIQBB")
_CLOSE_IDS = struct.Struct(">HH")
_CODE = struct.Struct(">H")


def ack_frame(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """Basic.Ack."""
    return _ACK_FRAME.pack(METHOD, channel, 13, ACK, tag, multiple, END)


def nack_frame(channel: int, tag: int, *, requeue: bool) -> bytes:
    """Basic.Nack of one delivery (RabbitMQ extension: bit 0 is multiple, bit 1 requeue)."""
    return _ACK_FRAME.pack(METHOD, channel, 13, NACK, tag, 2 if requeue else 0, END)


def reject_frame(channel: int, tag: int) -> bytes:
    """Basic.Reject without requeue: the broker dead-letters or drops the message."""
    return _ACK_FRAME.pack(METHOD, channel, 13, 0x003C005A, tag, 0, END)


def publish_method(exchange: str, topic: str) -> bytes:
    """Payload of a mandatory Basic.Publish."""
    return b"\x00\x3c\x00\x28\x00\x00" + encode_shortstr(exchange) + encode_shortstr(topic) + b"\x01"


def content_frames(channel: int, method: bytes, header: bytes, body: bytes, frame_max: int) -> bytes:
    """Method, content header and body frames of one message."""
    parts: list[bytes | memoryview] = [
        HEAD.pack(METHOD, channel, len(method)), method, b"\xce",
        HEAD.pack(HEADER, channel, len(header)), header, b"\xce",
    ]  # fmt: skip
    size, room = len(body), frame_max - OVERHEAD
    if size <= room:
        if size:
            parts += (HEAD.pack(BODY, channel, size), body, b"\xce")
        return b"".join(parts)
    view = memoryview(body)
    for start in range(0, size, room):
        piece = view[start : start + room]
        parts += (HEAD.pack(BODY, channel, len(piece)), piece, b"\xce")
    return b"".join(parts)


def read_tag(payload: bytes) -> tuple[int, int]:
    """Delivery tag and bits of Basic.Ack and Basic.Nack."""
    tag, bits = _fixed(_TAG_BITS, payload, 4)
    return tag, bits


def read_short(payload: bytes, offset: int) -> tuple[str, int]:
    """A short string at ``offset``, and the offset behind it."""
    start = offset + 1
    if start > len(payload):
        raise MalformedData("a truncated short string")
    end = start + payload[offset]
    if end > len(payload):
        raise MalformedData("a truncated short string")
    return payload[start:end].decode(errors="replace"), end


def read_deliver(payload: bytes) -> tuple[int, bool, str, str]:
    """Delivery tag, redelivered, exchange and routing key of Basic.Deliver."""
    _, offset = read_short(payload, 4)
    tag, redelivered = _fixed(_TAG_BITS, payload, offset)
    exchange, offset = read_short(payload, offset + 9)
    topic, _ = read_short(payload, offset)
    return tag, bool(redelivered & 1), exchange, topic


def read_return(payload: bytes) -> tuple[int, str, str, str]:
    """Code, text, exchange and routing key of Basic.Return."""
    (code,) = _fixed(_CODE, payload, 4)
    text, offset = read_short(payload, 6)
    exchange, offset = read_short(payload, offset)
    topic, _ = read_short(payload, offset)
    return code, text, exchange, topic


def read_close(payload: bytes) -> tuple[int, str, int]:
    """Code, text, and the method that caused a Channel.Close or Connection.Close (0 when none did)."""
    (code,) = _fixed(_CODE, payload, 4)
    text, offset = read_short(payload, 6)
    klass, method = _fixed(_CLOSE_IDS, payload, offset)
    return code, text, klass << 16 | method


def _fixed(form: struct.Struct, payload: bytes, offset: int) -> tuple[int, ...]:
    try:
        return form.unpack_from(payload, offset)
    except struct.error:
        raise MalformedData("a truncated method") from None
