"""What the spool's decisions ask for. Carried out one after the other, in the order in which they were decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from eventbus._errors import PublishError
from eventbus._message import Incoming, Message
from eventbus._settlement import Settlement
from eventbus._spool._copies import Kept, Marker


class Item:
    """One event of the bus, from its publish to its outcome.

    ``copied`` says that a copy of it was given to the spool, ``told`` that its caller knows its outcome. ``lost`` is
    the outcome of a try at the broker that failed by the connection, ``refused`` why the spool did not take the copy.
    """

    __slots__ = ("at", "copied", "deadline", "done", "lost", "mandatory", "message", "number", "refused", "told")

    def __init__(
        self,
        number: int,
        message: Message,
        deadline: float,
        done: Callable[[PublishError | None], None],
        *,
        mandatory: bool = False,
        at: float = 0.0,
    ) -> None:
        self.number = number
        self.message = message
        self.deadline = deadline
        self.done = done
        self.mandatory = mandatory
        self.at = at
        self.copied = False
        self.told = False
        self.lost: PublishError | None = None
        self.refused: PublishError | None = None


class Entry:
    """One delivery from the spool, in the order of arrival."""

    __slots__ = ("incoming", "number", "record")

    def __init__(self, number: int, incoming: Incoming, record: Kept | Marker) -> None:
        self.number = number
        self.incoming = incoming
        self.record = record


class Send(msgspec.Struct, frozen=True):
    """Publish the event at the broker."""

    item: Item
    deadline: float


class Keep(msgspec.Struct, frozen=True):
    """Put a copy of the event into the spool."""

    item: Item


class Tell(msgspec.Struct, frozen=True):
    """Tell the caller the outcome."""

    item: Item
    error: PublishError | None


class Mark(msgspec.Struct, frozen=True):
    """Put this marker into the spool."""

    number: int


class Forward(msgspec.Struct, frozen=True):
    """Publish an event of the spool at the broker."""

    entry: Entry
    message: Message
    deadline: float


class Notify(msgspec.Struct, frozen=True):
    """Tell another bus that its marker has come out."""

    entry: Entry
    marker: Marker


class Settle(msgspec.Struct, frozen=True):
    """Settle a delivery from the spool; ``how`` says why, for counts and logs."""

    incoming: Incoming
    settlement: Settlement
    how: Literal["marker", "sent", "unheard", "expired", "buried"]
    message: Message | None = None
    """The event as it was published, where it was unheard."""


class Run(msgspec.Struct, frozen=True):
    """Call this, in its turn."""

    call: Callable[[], object]


Action = Send | Keep | Tell | Mark | Forward | Notify | Settle | Run
