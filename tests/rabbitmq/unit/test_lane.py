"""The lane as data: bytes in, calls out; pamqp's encoder plays the broker."""

import pamqp.body
import pamqp.commands as commands
import pamqp.frame
import pamqp.header
import pamqp.heartbeat
import pytest
from eventbus_rabbitmq._content import ContentReader
from eventbus_rabbitmq._wire.frames import (
    DELIVER,
    HEARTBEAT_FRAME,
    METHOD,
    METHOD_ID,
    content_frames,
    publish_method,
    read_deliver,
)
from eventbus_rabbitmq._wire.lane import Lane, LaneError
from eventbus_rabbitmq._wire.tables import WireError
from hypothesis import given
from hypothesis import strategies as st

OURS = 7


def marshal(frame: object, channel: int = OURS) -> bytes:
    return pamqp.frame.marshal(frame, channel)  # type: ignore[arg-type]


def delivery(tag: int, body: bytes, frame_max: int = 131072, headers: dict[str, object] | None = None) -> bytes:
    """A delivery as a broker would send it."""
    properties = commands.Basic.Properties(content_type="text/plain", message_id=str(tag), headers=headers)
    frames = marshal(commands.Basic.Deliver("eventbus", tag, tag % 2 == 0, "an.exchange", "a.topic"))
    frames += marshal(pamqp.header.ContentHeader(0, len(body), properties))
    for start in range(0, len(body), frame_max - 8):
        frames += marshal(pamqp.body.ContentBody(body[start : start + frame_max - 8]))
    return frames


class Collector:
    """A channel of the lane that keeps what comes."""

    def __init__(self, max_body: int = 1 << 20) -> None:
        self.messages: list[tuple[int, bool, bytes, str | None]] = []
        self.reader = ContentReader(max_body, self._complete)

    def _complete(self, method: bytes, properties: object, body: bytes, problem: str | None) -> None:
        tag, redelivered, exchange, topic = read_deliver(method)
        assert (exchange, topic) == ("an.exchange", "a.topic")
        self.messages.append((tag, redelivered, body, problem))

    def frame(self, kind: int, payload: bytes) -> bool:
        if kind != METHOD:
            self.reader.take(kind, payload)
            return True
        if METHOD_ID.unpack_from(payload)[0] == DELIVER:
            self.reader.begin(payload)
            return True
        return False


def lane(max_body: int = 1 << 20) -> tuple[Lane, Collector, list[bytes], list[str | None]]:
    forwarded: list[bytes] = []
    blocked: list[str | None] = []
    made = Lane(forwarded.append, blocked.append)
    collector = Collector(max_body)
    made.channels[OURS] = collector
    return made, collector, forwarded, blocked


STREAM = b"".join(
    (
        marshal(commands.Channel.OpenOk(), 3),
        delivery(1, b"one"),
        delivery(2, b""),
        marshal(pamqp.heartbeat.Heartbeat(), 0),
        delivery(3, b"x" * 10_000, frame_max=4096),
        marshal(commands.Connection.Blocked("low on memory"), 0),
        marshal(commands.Basic.QosOk()),
        marshal(commands.Connection.Unblocked(), 0),
        delivery(4, b"four"),
    )
)
THEIRS = b"".join(
    (
        marshal(commands.Channel.OpenOk(), 3),
        marshal(pamqp.heartbeat.Heartbeat(), 0),
        marshal(commands.Connection.Blocked("low on memory"), 0),
        marshal(commands.Basic.QosOk()),
        marshal(commands.Connection.Unblocked(), 0),
    )
)
OURS_DECODED = [
    (1, False, b"one", None),
    (2, True, b"", None),
    (3, False, b"x" * 10_000, None),
    (4, True, b"four", None),
]


def test_a_stream_cut_anywhere_gives_the_same_messages_and_forwards_the_same_frames() -> None:
    for cut in range(len(STREAM) + 1):
        made, collector, forwarded, blocked = lane()
        made.feed(STREAM[:cut])
        made.feed(STREAM[cut:])
        assert collector.messages == OURS_DECODED
        assert b"".join(forwarded) == THEIRS
        assert blocked == ["low on memory", None]


def test_a_stream_of_single_bytes_gives_the_same() -> None:
    made, collector, forwarded, _ = lane()
    for at in range(len(STREAM)):
        made.feed(STREAM[at : at + 1])
    assert collector.messages == OURS_DECODED
    assert b"".join(forwarded) == THEIRS


def test_a_large_body_in_many_frames_and_reads_is_put_together() -> None:
    body = bytes(range(256)) * 65536  # 16 MiB
    stream = delivery(1, body)
    made, collector, _, _ = lane(max_body=len(body))
    for start in range(0, len(stream), 65536):
        made.feed(stream[start : start + 65536])
    assert [m[2] == body for m in collector.messages] == [True]


def test_a_body_above_the_limit_is_told_of_and_not_kept_and_the_next_one_comes_through() -> None:
    made, collector, _, _ = lane(max_body=100)
    made.feed(delivery(1, b"x" * 101) + delivery(2, b"small"))
    assert collector.messages[0][2] == b""
    assert "101" in (collector.messages[0][3] or "")
    assert collector.messages[1] == (2, True, b"small", None)


def test_headers_nested_too_deep_are_a_problem_of_that_message_alone() -> None:
    nested: dict[str, object] = {}
    for _ in range(50):
        nested = {"a": nested}
    made, collector, _, _ = lane()
    made.feed(delivery(1, b"x", headers=nested) + delivery(2, b"good"))
    assert "headers" in (collector.messages[0][3] or "")
    assert collector.messages[1] == (2, True, b"good", None)


def test_a_frame_above_the_agreed_size_ends_the_connection_before_it_is_read() -> None:
    made, _, _, _ = lane()
    made.feed(delivery(1, b"x"))
    with pytest.raises(LaneError, match="at most"):
        made.feed(b"\x03\x00\x07\x80\x00\x00\x00\x00")


def test_a_frame_without_its_end_mark_ends_the_connection() -> None:
    made, _, _, _ = lane()
    with pytest.raises(LaneError, match="end mark"):
        made.feed(marshal(commands.Channel.OpenOk(), 3)[:-1] + b"\x00")


@pytest.mark.parametrize(
    "stream",
    [
        marshal(pamqp.body.ContentBody(b"x")),
        marshal(commands.Basic.Deliver("t", 1, False, "e", "t")) * 2,
        marshal(commands.Basic.Deliver("t", 1, False, "e", "t")) + marshal(pamqp.body.ContentBody(b"x")),
        delivery(1, b"ab")[:-10] + marshal(pamqp.body.ContentBody(b"abc")),
    ],
    ids=["body alone", "two methods", "body before header", "body too long"],
)
def test_content_out_of_order_ends_the_connection(stream: bytes) -> None:
    made, _, _, _ = lane()
    with pytest.raises(LaneError):
        made.feed(stream)


def test_a_broker_of_another_protocol_is_left_to_the_client_library() -> None:
    made, _, forwarded, _ = lane()
    made.feed(b"AMQP\x00")
    made.feed(b"\x00\x09\x01")
    assert b"".join(forwarded) == b"AMQP\x00\x00\x09\x01"


def test_the_library_sees_a_heartbeat_while_only_lane_traffic_flows() -> None:
    now = [0.0]
    forwarded: list[bytes] = []
    made = Lane(forwarded.append, lambda reason: None, clock=lambda: now[0])
    made.channels[OURS] = Collector()
    for second in range(5):
        now[0] = second * 0.6
        made.feed(delivery(second + 1, b"x"))
    assert forwarded == [HEARTBEAT_FRAME, HEARTBEAT_FRAME]


def test_a_close_by_the_broker_is_remembered_with_its_words() -> None:
    made, _, forwarded, _ = lane()
    close = marshal(commands.Connection.Close(530, "NOT_ALLOWED - vhost x not found", 10, 40), 0)
    made.feed(close)
    assert made.closed is not None
    assert (made.closed.reply_code, made.closed.reply_text) == (530, "NOT_ALLOWED - vhost x not found")
    assert forwarded == [close]


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_any_bytes_are_taken_or_refused_by_its_own_error_and_never_kept_without_bound(pieces: list[bytes]) -> None:
    made, _, _, _ = lane()
    try:
        for piece in pieces:
            made.feed(piece)
    except (LaneError, WireError):
        return
    assert len(made._rest) <= sum(map(len, pieces))


@given(st.binary(max_size=9000), st.integers(4096, 8192))
def test_what_we_publish_is_read_by_pamqp(body: bytes, frame_max: int) -> None:
    header = b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big") + b"\x00\x00"
    data = content_frames(OURS, publish_method("an.exchange", "a.topic"), header, body, frame_max)
    parts, got = [], b""
    while data:
        size, channel, frame = pamqp.frame.unmarshal(data)
        assert channel == OURS
        assert size <= frame_max
        data = data[size:]
        parts.append(frame)
    assert isinstance(parts[0], commands.Basic.Publish)
    assert (parts[0].exchange, parts[0].routing_key, parts[0].mandatory) == ("an.exchange", "a.topic", True)
    for part in parts[2:]:
        got += part.value
    assert got == body
