"""One channel of a consumer: the frames that come on it, and the deliveries that are open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_rabbitmq._acks import Acks
from eventbus_rabbitmq._content import ContentReader
from eventbus_rabbitmq._port import Channel, Session
from eventbus_rabbitmq._publisher import Publisher
from eventbus_rabbitmq._recognising import HeaderReader, Recognised
from eventbus_rabbitmq._wire.frames import (
    ACK,
    CANCEL,
    CHANNEL_CLOSE,
    DELIVER,
    METHOD,
    METHOD_ID,
    NACK,
    RETURN,
    read_close,
    read_deliver,
)
from eventbus_rabbitmq._wire.properties import Properties

if TYPE_CHECKING:
    from eventbus_rabbitmq._consumer import Consumer


class Life:
    """One life of a consumer: a channel, from its opening to its end. Tokens of deliveries point to it."""

    def __init__(self, consumer: Consumer, session: Session, channel: Channel, number: int, max_body: int) -> None:
        self.consumer = consumer
        self.session = session
        self.channel = channel
        self.number = number
        self.acks = Acks(number)
        self.alive = True
        self.queue = ""
        self.publisher: Publisher | None = None
        """For direct reply-to: requests are published on the channel that gets the replies."""
        self._content = ContentReader(max_body, self._complete, HeaderReader())
        self._returning = False

    def frame(self, kind: int, payload: bytes) -> bool:
        """Take a frame of this channel; False leaves it (also) to the client library."""
        if kind != METHOD:
            if self._returning and self.publisher is not None:
                return self.publisher.frame(kind, payload)
            self._content.take(kind, payload)
            return True
        method = METHOD_ID.unpack_from(payload)[0] if len(payload) >= 4 else 0
        if method == DELIVER:
            self._returning = False
            self._content.begin(payload)
            return True
        if self.publisher is not None and method in (ACK, NACK, RETURN):
            self._returning = method == RETURN
            return self.publisher.frame(kind, payload)
        if method == CHANNEL_CLOSE:
            code, text, _ = read_close(payload)
            self.consumer.channel_closed(self, code, text)
        elif method == CANCEL:
            self.consumer.cancelled_by_broker(self)
        return False

    def _complete(self, method: bytes, properties: Properties | Recognised, body: bytes, problem: str | None) -> None:
        self.consumer.arrived(self, read_deliver(method), properties, body, problem)
