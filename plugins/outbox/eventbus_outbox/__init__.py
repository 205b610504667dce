"""Transactional outbox: events stored with the application's data, relayed to the bus in order per key.

::

    outbox = Outbox(bus)

    with Session(engine) as session, session.begin():
        session.add(order)
        outbox.add(session, OrderPlaced(...), key=order.id)     # both, or neither

    Relay(bus, engine).run()                                    # in as many processes as you like

Everything is imported when it is used, so that ``eventbus --help`` does without it, and threads without asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventbus_outbox._async_relay import AsyncRelay
    from eventbus_outbox._outbox import AsyncOutbox, Outbox
    from eventbus_outbox._relay import Relay
    from eventbus_outbox._relaying import RelayStatus
    from eventbus_outbox._rows import Failure, Lag

__all__ = ["AsyncOutbox", "AsyncRelay", "Failure", "Lag", "Outbox", "Relay", "RelayStatus"]

_HOMES = {
    "AsyncOutbox": "_outbox",
    "AsyncRelay": "_async_relay",
    "Failure": "_rows",
    "Lag": "_rows",
    "Outbox": "_outbox",
    "Relay": "_relay",
    "RelayStatus": "_relaying",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
