"""Transactional outbox: events stored with the application's data, relayed to the bus in order per key.

::

    outbox = Outbox(bus)

    with Session(engine) as session, session.begin():
        session.add(order)
        outbox.add(session, OrderPlaced(...), key=order.id)     # both, or neither

    Relay(bus, engine).run()                                    # in as many processes as you like
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus_outbox._outbox import AsyncOutbox, Outbox
from eventbus_outbox._relay import Relay
from eventbus_outbox._relaying import RelayStatus
from eventbus_outbox._rows import Failure, Lag

if TYPE_CHECKING:
    from eventbus_outbox._async_relay import AsyncRelay

__all__ = ["AsyncOutbox", "AsyncRelay", "Failure", "Lag", "Outbox", "Relay", "RelayStatus"]


def __getattr__(name: str) -> Any:
    # asyncio is imported only by those who use it.
    if name == "AsyncRelay":
        from eventbus_outbox._async_relay import AsyncRelay

        return AsyncRelay
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
