"""The publisher side of a lane channel: what has been written, and what the broker says of it.

Confirms are kept by delivery tag, within one channel of one connection, and never by message id: a resent or
fanned-out message shares its id.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, takewhile

import msgspec

from eventbus import PublishError, Rejected, Unroutable
from eventbus_rabbitmq._content import ContentReader
from eventbus_rabbitmq._waiting import Wait
from eventbus_rabbitmq._wire.frames import (
    ACK,
    CHANNEL_CLOSE,
    METHOD,
    METHOD_ID,
    NACK,
    RETURN,
    content_frames,
    publish_method,
    read_close,
    read_return,
    read_tag,
)
from eventbus_rabbitmq._wire.properties import Properties

Done = Callable[[PublishError | None], None]

_MAX_METHODS = 4096


class Outgoing(msgspec.Struct, gc=False, kw_only=True, eq=False):
    """A message between ``publish`` and its outcome."""

    exchange: str
    topic: str
    id: str
    header: bytes
    body: bytes
    deadline: float
    finish_with: Done | None
    sends: int = 0
    """How often it was written; bytes may have left each time, on this or an earlier connection."""
    returned: str | None = None
    wait: Wait | None = None
    """Where it waits before it is delivered."""
    by: Callable[[Outgoing], None] | None = None
    """For a request by direct reply-to: the channel that gets the reply."""
    alive: Callable[[], bool] | None = None
    """For a copy: whether its original can still be settled."""

    def done(self, error: PublishError | None) -> None:
        """It has its outcome; the first one counts."""
        finish, self.finish_with = self.finish_with, None
        if finish is not None:
            finish(error)


class Publisher:
    """Confirm table of one channel. ``confirmed`` gets every outcome that the broker tells, in its order."""

    def __init__(
        self,
        number: int,
        frame_max: int,
        write: Callable[[bytes], None],
        confirmed: Callable[[Outgoing, PublishError | None], None],
        closed: Callable[[int, str, int], None],
    ) -> None:
        self.number = number
        self._frame_max = frame_max
        self._write = write
        self._confirmed = confirmed
        self._closed = closed
        self._tag = 0
        self._methods: dict[tuple[str, str], bytes] = {}
        self._returns = ContentReader(0, self._on_return)
        self._returned_to = 0
        self.unconfirmed: dict[int, Outgoing] = {}
        self.proven: set[str] = set()
        """Exchanges that have confirmed something on this channel."""

    def send(self, outgoing: Outgoing) -> None:
        """Write one publish."""
        key = (outgoing.exchange, outgoing.topic)
        method = self._methods.get(key)
        if method is None:
            if len(self._methods) >= _MAX_METHODS:
                self._methods.clear()
            method = self._methods[key] = publish_method(*key)
        self._tag += 1
        outgoing.sends += 1
        outgoing.returned = None
        self.unconfirmed[self._tag] = outgoing
        self._write(content_frames(self.number, method, outgoing.header, outgoing.body, self._frame_max))

    def frame(self, kind: int, payload: bytes) -> bool:
        """Take a frame of this channel; False leaves it to the client library."""
        if kind != METHOD:
            self._returns.take(kind, payload)
            return True
        method = METHOD_ID.unpack_from(payload)[0] if len(payload) >= 4 else 0
        if method == ACK:
            self._settle(*read_tag(payload), None)
        elif method == NACK:
            tag, bits = read_tag(payload)
            self._settle(tag, bits & 1, Rejected("the broker refused the message (nack): a queue is full or failed"))
        elif method == RETURN:
            self._returns.begin(payload)
        elif method == CHANNEL_CLOSE:
            self._closed(*read_close(payload))
            return False
        else:
            return False
        return True

    def _settle(self, tag: int, multiple: int, error: PublishError | None) -> None:
        unconfirmed = self.unconfirmed
        if not multiple:
            outgoing = unconfirmed.pop(tag, None)
            if outgoing is not None:
                self._end(outgoing, error)
            return
        # Tags are given in rising order and a dict keeps it, so the first ones are the lowest.
        tags = list(unconfirmed) if tag == 0 else list(takewhile(tag.__ge__, unconfirmed))
        for known in tags:
            outgoing = unconfirmed.pop(known, None)
            if outgoing is not None:  # an outcome's callback may have emptied the table
                self._end(outgoing, error)

    def _end(self, outgoing: Outgoing, error: PublishError | None) -> None:
        if error is None:
            self.proven.add(outgoing.exchange)
            if outgoing.returned is not None:
                error = Unroutable(outgoing.returned)
        self._confirmed(outgoing, error)

    def _on_return(self, method: bytes, properties: Properties, body: bytes, problem: str | None) -> None:
        """The broker returns an unroutable message before it confirms it (RabbitMQ: docs/publishers)."""
        _, text, exchange, topic = read_return(method)
        # RabbitMQ returns in the order of publishing, so the search begins behind the last one found. Headers beyond
        # our limits hide the id; then exchange and topic, and the order, have to do.
        ident = properties.message_id
        first = next(iter(self.unconfirmed), self._tag + 1)
        middle = max(first, self._returned_to + 1)
        for tag in chain(range(middle, self._tag + 1), range(first, middle)):
            outgoing = self.unconfirmed.get(tag)
            if (
                outgoing is not None
                and outgoing.returned is None
                and (ident is None or outgoing.id == ident)
                and outgoing.exchange == exchange
                and outgoing.topic == topic
            ):
                self._returned_to = tag
                outgoing.returned = (
                    f"no queue of exchange {exchange!r} takes topic {topic!r}: nobody is subscribed ({text})"
                )
                return
