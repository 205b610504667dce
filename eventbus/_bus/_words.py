"""The errors that a bus raises by itself, with their words."""

from __future__ import annotations

from eventbus._bus._health import REPLY_CONSUMER
from eventbus._errors import (
    BusClosed,
    EventBusError,
    NoResponder,
    NotSent,
    PublishError,
    PublishUnknown,
    RequestLost,
    Unroutable,
)
from eventbus.transport import LinkStatus


def closed_error() -> BusClosed:
    """What publishing on a stopping bus raises."""
    return BusClosed("the bus is stopping or has stopped, so nothing was sent")


def full_error(size: int, status: LinkStatus) -> NotSent:
    """What publishing raises when the window stays full."""
    why = f"; the broker blocks publishing: {status.blocked}" if status.blocked else ""
    return NotSent(f"{size} publishes are without an outcome and none ended in time{why}")


def no_reply_address(status: LinkStatus) -> NotSent:
    """What asking raises while there is no queue for replies."""
    error = status.error or getattr(status.consumers.get(REPLY_CONSUMER), "error", None)
    told = NotSent(f"no reply queue could be had in time{f': {error}' if error else ''}")
    told.__cause__ = error
    return told


def request_error(error: PublishError) -> EventBusError:
    """How a failed publish ends the request that it carried."""
    if isinstance(error, Unroutable):
        return NoResponder("nobody answers this request: no responder is connected")
    if isinstance(error, PublishUnknown):
        return RequestLost(f"the request may or may not have been sent: {error}")
    return error
