"""Decisions of the spool: what belongs into it, what an outcome says, and what becomes of an event that was sent."""

from __future__ import annotations

import enum

from eventbus._errors import (
    BusClosed,
    ConnectionFailed,
    EventBusError,
    ExchangeMissing,
    NotSent,
    PublishError,
    PublishUnknown,
    Rejected,
    Unroutable,
)
from eventbus._message import Message
from eventbus.transport import LinkStatus, Phase


def is_event(message: Message) -> bool:
    """Whether the message may wait in a spool: requests and replies are of no use later."""
    return message.reply_to is None and (bool(message.exchange) or message.correlation_id is None)


def reach(status: LinkStatus) -> bool | None:
    """Whether the broker takes publishes now; None when nobody knows yet, because the first connect is on its way."""
    if status.phase is Phase.READY:
        return status.blocked is None
    return False if status.phase in (Phase.WAITING, Phase.FAILED) else None


def speaks_of_connection(error: PublishError) -> bool:
    """Whether a publish failed because of the connection, and not because of the message or a permission."""
    if type(error) not in (NotSent, PublishUnknown):
        return False
    cause = error.__cause__
    return not isinstance(cause, EventBusError) or isinstance(cause, ConnectionFailed)


class Fate(enum.Enum):
    """What becomes of an event in the spool after a try to send it."""

    SENT = enum.auto()
    UNHEARD = enum.auto()
    AGAIN = enum.auto()
    REFUSED = enum.auto()
    BURY = enum.auto()


def fate(error: PublishError | None, *, mandatory: bool) -> Fate:
    """By its outcome. REFUSED is worth another try for a while: a broker that has just come back refuses at first."""
    if error is None:
        return Fate.SENT
    if isinstance(error, Unroutable):
        return Fate.BURY if mandatory else Fate.UNHEARD
    if isinstance(error, (PublishUnknown, BusClosed)) or speaks_of_connection(error):
        return Fate.AGAIN
    if isinstance(error, (Rejected, ExchangeMissing)) or type(error) is NotSent:
        return Fate.REFUSED
    return Fate.BURY


def not_kept(error: PublishError, direct: PublishError | None) -> PublishError:
    """What the caller hears when the spool did not take the event; ``direct`` is the outcome of a try before."""
    unknown = isinstance(error, PublishUnknown) or isinstance(direct, PublishUnknown)
    why = f"; the broker: {direct}" if direct is not None else ""
    told = (PublishUnknown if unknown else NotSent)(f"the spool did not keep the event: {error}{why}")
    told.__cause__ = error
    return told
