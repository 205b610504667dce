"""SQLite transport of eventbus: a durable bus in one file, shared by the processes of one machine.

::

    bus = EventBus("sqlite:///bus.db", service="shop")

Several processes publish and consume through the file. A message that was handed out has a lease: when its process
dies, or is not heard of for so long, it goes back to its queue, and what that process says of it later is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventbus_sqlite._failures import FileDamaged
    from eventbus_sqlite._options import Options
    from eventbus_sqlite._transport import SQLiteTransport

__all__ = ["FileDamaged", "Options", "SQLiteTransport"]

# The command's help needs none of them.
_HOMES = {"FileDamaged": "_failures", "Options": "_options", "SQLiteTransport": "_transport"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
