"""Inbox: a handler's effect and its message's id are committed together, so that a redelivery has no second effect.

::

    inbox = Inbox(engine)

    @bus.subscribe(OrderPlaced, group="billing")
    def bill(event: OrderPlaced, session: Annotated[Session, Depends(inbox.session)]) -> None:
        session.add(Invoice(order=event.order_id))      # committed before the delivery is acked
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus_inbox._inbox import Inbox

if TYPE_CHECKING:
    from eventbus_inbox._async_inbox import AsyncInbox

__all__ = ["AsyncInbox", "Inbox"]


def __getattr__(name: str) -> Any:
    # asyncio is imported only by those who use it.
    if name == "AsyncInbox":
        from eventbus_inbox._async_inbox import AsyncInbox

        return AsyncInbox
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
