"""The table's rows as values."""

from __future__ import annotations

import msgspec


class Row(msgspec.Struct, frozen=True):
    """A row that a relay has claimed. Rows of one ``key`` are published in the order of their ids."""

    id: int
    key: str | None
    attempts: int
    body: bytes


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A message that could not be published so far.

    ``attempts`` counts those that failed, ``error`` is the last one, ``age`` is seconds since the event was added.
    ``set_aside``: nobody tries it any more, until somebody says so.
    """

    id: int
    message_id: str
    key: str | None
    attempts: int
    error: str
    age: float
    set_aside: bool


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """What waits in the outbox.

    ``rows`` that are to be relayed, and the ``age`` of the oldest of them in seconds (0 when there is none);
    ``set_aside`` are those that nobody tries any more.
    """

    rows: int
    age: float
    set_aside: int
