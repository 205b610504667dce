"""Assembling content: a method, a header, and as many body frames as its size says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventbus_rabbitmq._wire.frames import BODY, CONTENT_HEAD, HEADER
from eventbus_rabbitmq._wire.lane import LaneError
from eventbus_rabbitmq._wire.properties import Properties, decode_properties
from eventbus_rabbitmq._wire.tables import WireError

NO_PROPERTIES = Properties()

Complete = Callable[[bytes, Any, bytes, str | None], None]
"""Gets the method's payload, properties, body, and what is wrong with the message (it is then empty)."""


def read_properties(payload: bytes) -> Properties:
    """What a content header says. :raises WireError: it cannot be read."""
    return decode_properties(payload, CONTENT_HEAD.size)[0]


class ContentReader:
    """Collects one message at a time. A message beyond the limits is told of, and its body not kept.

    ``read`` makes of a content header's payload what ``complete`` gets as properties.
    """

    def __init__(self, max_body: int, complete: Complete, read: Callable[[bytes], object] = read_properties) -> None:
        self._max_body = max_body
        self._complete = complete
        self._read = read
        self._method: bytes | None = None
        self._properties: object | None = None
        self._parts: list[bytes] = []
        self._left = 0
        self._problem: str | None = None

    def begin(self, method: bytes) -> None:
        """A method that announces content."""
        if self._method is not None:
            raise LaneError("a message began before the last one was complete")
        self._method = method

    def take(self, kind: int, payload: bytes) -> None:
        """A content header or body frame."""
        if kind == HEADER and self._method is not None and self._properties is None:
            self._header(payload)
        elif kind == BODY and self._properties is not None:
            self._left -= len(payload)
            if self._left < 0:
                raise LaneError("a body longer than its header says")
            if self._problem is None:
                self._parts.append(payload)
        else:
            raise LaneError("content out of order")
        if self._left == 0:
            self._finish()

    def _header(self, payload: bytes) -> None:
        if len(payload) < CONTENT_HEAD.size + 2:
            raise LaneError("a truncated content header")
        _, _, self._left = CONTENT_HEAD.unpack_from(payload)
        try:
            self._properties = self._read(payload)
        except WireError as error:
            self._properties, self._problem = NO_PROPERTIES, f"the headers cannot be read: {error}"
        if self._left > self._max_body:
            self._problem = f"a body of {self._left} bytes, above the limit of {self._max_body} (max_body of the bus)"

    def _finish(self) -> None:
        method, properties, problem = self._method, self._properties, self._problem
        body = b"" if problem else self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._method = self._properties = self._problem = None
        self._parts = []
        assert method is not None
        assert properties is not None
        self._complete(method, properties, body, problem)
