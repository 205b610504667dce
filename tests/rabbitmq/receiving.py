"""The whole receive path without a socket: the lane, a consumer's channel (1), a publisher's (2), what they tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from eventbus_rabbitmq._life import Life
from eventbus_rabbitmq._mapping import HeaderEncoder, read_message
from eventbus_rabbitmq._preparing import prepare
from eventbus_rabbitmq._publisher import Outgoing, Publisher
from eventbus_rabbitmq._recognising import Recognised
from eventbus_rabbitmq._wire.lane import Lane

from eventbus._message import Message
from eventbus._settlement import restore_origin

CORPUS = {path.stem: path.read_bytes() for path in sorted(Path(__file__).with_name("corpus").glob("*.bin"))}

PUBLISHED = 60
MAX_BODY = 64 * 1024


OUTGOING = prepare(
    HeaderEncoder(),
    Message(exchange="", topic="nowhere", body=b"y", id="an-id", type="t", source="s"),
    max_body=10,
    service="s",
    deadline=0.0,
    done=lambda error: None,
)


class Receiver:
    """Takes bytes; ``told`` is everything that came of them, in order."""

    def __init__(self, frame_max: int = 4096) -> None:
        self.told: list[Any] = []
        self.forwarded = bytearray()
        self.lane = Lane(self.forwarded.extend, lambda reason: self.told.append(("blocked", reason)), lambda: 0.0)
        self.lane.frame_max = frame_max
        self.life = Life(self, None, None, 1, MAX_BODY)  # type: ignore[arg-type]
        self.publisher = Publisher(2, frame_max, lambda data: None, self._outcome, self._closed)
        for number in range(PUBLISHED):
            self.publisher.send(msgspec.structs.replace(OUTGOING, deadline=float(number)))
        self.lane.channels.update({1: self.life, 2: self.publisher})

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.lane.feed(piece)

    @property
    def held(self) -> int:
        """Bytes of input that are kept."""
        parts = [*self.life._content._parts, *self.publisher._returns._parts]
        return len(self.lane._rest) + sum(map(len, parts))

    # -- what a consumer hears --------------------------------------------------------------------------

    def arrived(self, life: Life, method: Any, properties: Any, body: bytes, problem: str | None) -> None:
        tag, redelivered, exchange, topic = method
        if isinstance(properties, Recognised):
            message = properties.message(exchange, topic, body)
        else:
            message = read_message(exchange, topic, properties, body)
        # An id is made up for a message that has none.
        told = (message.topic, message.type, message.source, message.headers, message.correlation_id, message.ttl)
        self.told.append(("arrived", tag, redelivered, told, restore_origin(message).attempt, body, problem))

    def channel_closed(self, life: Life, code: int, text: str) -> None:
        self.told.append(("closed", 1, code, text))

    def cancelled_by_broker(self, life: Life) -> None:
        self.told.append(("cancelled",))

    # -- what a publisher hears -------------------------------------------------------------------------

    def _outcome(self, outgoing: Outgoing, error: Exception | None) -> None:
        self.told.append(("outcome", outgoing.deadline, None if error is None else f"{type(error).__name__}: {error}"))

    def _closed(self, code: int, text: str, method: int) -> None:
        self.told.append(("closed", 2, code, text, method))
