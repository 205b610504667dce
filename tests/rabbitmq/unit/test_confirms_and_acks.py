"""The confirm table and the joining of acks, as data."""

import pamqp.commands as commands
import pamqp.frame
import pamqp.header
import pytest
from eventbus_rabbitmq._acks import Acks
from eventbus_rabbitmq._mapping import HeaderEncoder, read_message
from eventbus_rabbitmq._preparing import prepare
from eventbus_rabbitmq._publisher import Outgoing, Publisher
from eventbus_rabbitmq._wire.properties import Properties, decode_properties
from hypothesis import given
from hypothesis import strategies as st

from eventbus import Message, PublishError, Rejected, Unroutable

NUMBER = 5


class Channel:
    """A publisher whose outcomes are kept."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.outcomes: list[tuple[str, type | None]] = []
        self.publisher = Publisher(NUMBER, 131072, self.written.append, self._outcome, lambda *close: None)

    def _outcome(self, outgoing: Outgoing, error: PublishError | None) -> None:
        self.outcomes.append((outgoing.topic, type(error) if error is not None else None))

    def send(self, topic: str, id: str = "same") -> None:
        message = Message(exchange="e", topic=topic, body=b"{}", id=id, type="t", source="s")
        outgoing = prepare(HeaderEncoder(), message, service="s", max_body=1000, deadline=0.0, done=lambda error: None)
        self.publisher.send(outgoing)

    def receive(self, *frames: object) -> None:
        for frame in frames:
            data = pamqp.frame.marshal(frame, NUMBER)  # type: ignore[arg-type]
            assert self.publisher.frame(data[0], data[7:-1])

    def returned(self, topic: str, id: str = "same") -> None:
        properties = commands.Basic.Properties(message_id=id)
        self.receive(commands.Basic.Return(312, "NO_ROUTE", "e", topic), pamqp.header.ContentHeader(0, 0, properties))


def test_confirms_in_any_order_go_to_their_own_publish() -> None:
    channel = Channel()
    for topic in "abc":
        channel.send(topic)
    channel.receive(commands.Basic.Ack(3), commands.Basic.Nack(1), commands.Basic.Ack(2))
    assert channel.outcomes == [("c", None), ("a", Rejected), ("b", None)]


def test_one_ack_for_many_confirms_all_up_to_it() -> None:
    channel = Channel()
    for topic in "abcd":
        channel.send(topic)
    channel.receive(commands.Basic.Ack(3, True))
    assert channel.outcomes == [("a", None), ("b", None), ("c", None)]
    assert len(channel.publisher.unconfirmed) == 1


def test_one_nack_for_many_rejects_all_up_to_it() -> None:
    channel = Channel()
    for topic in "abc":
        channel.send(topic)
    channel.receive(commands.Basic.Nack(2, True, False))
    assert channel.outcomes == [("a", Rejected), ("b", Rejected)]


def test_two_publishes_with_one_id_keep_their_own_outcomes() -> None:
    channel = Channel()
    channel.send("nobody")
    channel.send("somebody")
    channel.returned("nobody")
    channel.receive(commands.Basic.Ack(2, True))
    assert channel.outcomes == [("nobody", Unroutable), ("somebody", None)]


def test_a_second_confirm_of_one_tag_is_ignored() -> None:
    channel = Channel()
    channel.send("a")
    channel.receive(commands.Basic.Ack(1), commands.Basic.Ack(1), commands.Basic.Ack(99))
    assert channel.outcomes == [("a", None)]


@given(st.data())
def test_every_publish_ends_once_whatever_the_order_of_confirms(data: st.DataObject) -> None:
    channel = Channel()
    count = data.draw(st.integers(1, 20))
    expected: dict[str, type | None] = {}
    for number in range(1, count + 1):
        channel.send(str(number), id=str(number % 3))
    open_tags = set(range(1, count + 1))
    while open_tags:
        tag = data.draw(st.sampled_from(sorted(open_tags)))
        multiple = data.draw(st.booleans())
        kind = data.draw(st.sampled_from(["ack", "nack", "return"]))
        ended = {t for t in open_tags if t <= tag} if multiple else {tag}
        for t in sorted(ended):
            expected[str(t)] = Rejected if kind == "nack" else None
        if kind == "return":
            channel.returned(str(tag), id=str(tag % 3))
            expected[str(tag)] = Unroutable
        channel.receive(commands.Basic.Nack(tag, multiple) if kind == "nack" else commands.Basic.Ack(tag, multiple))
        open_tags -= ended
    assert dict(channel.outcomes) == expected
    assert len(channel.outcomes) == count


@given(st.data())
def test_joined_acks_ack_exactly_what_was_settled(data: st.DataObject) -> None:
    """A broker's view of the written acks, against the set of finished deliveries, at every flush."""
    acks, unsettled, finished, next_tag = Acks(NUMBER), set[int](), set[int](), 1
    for _ in range(data.draw(st.integers(1, 30))):
        for _ in range(data.draw(st.integers(0, 4))):
            acks.delivered(next_tag)
            unsettled.add(next_tag)
            next_tag += 1
        running = sorted(unsettled - finished)
        for tag in data.draw(st.lists(st.sampled_from(running), unique=True)) if running else []:
            if data.draw(st.integers(0, 4)) == 0:
                acks.forget(tag)  # rejected by a frame of its own
                unsettled.discard(tag)
            else:
                acks.ack(tag)
                finished.add(tag)
        written: list[bytes] = []
        acks.flush(written.append)
        stream = b"".join(written)
        while stream:
            size, _, frame = pamqp.frame.unmarshal(stream)
            stream = stream[size:]
            assert isinstance(frame, commands.Basic.Ack)
            covered = {t for t in unsettled if t <= frame.delivery_tag} if frame.multiple else {frame.delivery_tag}
            assert covered
            assert covered <= finished, "a delivery was acked before its handler had finished"
            unsettled -= covered
        assert not (finished & unsettled), "a finished delivery was not acked"


text = st.text(min_size=1, max_size=40)
names = text.filter(lambda name: not name.startswith("ce-"))


@given(
    st.builds(
        Message,
        exchange=st.just("e"),
        topic=st.just("t"),
        body=st.binary(max_size=50),
        id=text,
        type=text,
        source=text,
        time=st.floats(1, 4e9),
        subject=st.none() | text,
        dataschema=st.none() | text,
        headers=st.dictionaries(
            text.filter(lambda k: not k.startswith("ce-")), st.integers(-(2**63), 2**63 - 1) | text
        ),
        correlation_id=st.none() | text,
        reply_to=st.none() | text,
        priority=st.none() | st.integers(0, 255),
        ttl=st.none() | st.integers(0, 10**6),
        persistent=st.booleans(),
    )
)
def test_a_message_survives_the_way_over_the_wire(message: Message) -> None:
    payload = HeaderEncoder().encode(message)
    properties, end = decode_properties(payload, 12)
    assert end == len(payload)
    back = read_message("e", "t", properties, message.body)
    assert abs(back.time - message.time) < 1e-3
    for name in Message.__struct_fields__:
        if name != "time":
            assert getattr(back, name) == getattr(message, name), name


@pytest.mark.parametrize("prefix", ["cloudEvents:", "cloudEvents_", "ce-"])
def test_every_prefix_of_cloudevents_attributes_is_read(prefix: str) -> None:
    headers = {f"{prefix}id": "7", f"{prefix}type": "a.b", f"{prefix}source": "/s", "own": 1}
    message = read_message("e", "t", Properties(headers=headers), b"")
    assert (message.id, message.type, message.source, dict(message.headers)) == ("7", "a.b", "/s", {"own": 1})
