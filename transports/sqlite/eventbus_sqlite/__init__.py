"""SQLite transport of eventbus: a durable bus in one file, shared by the processes of one machine.

::

    bus = EventBus("sqlite:///bus.db", service="shop")

Several processes publish and consume through the file. A message that was handed out has a lease: when its process
dies, or is not heard of for so long, it goes back to its queue, and what that process says of it later is refused.
"""

from __future__ import annotations

from ._failures import FileDamaged
from ._options import Options
from ._transport import SQLiteTransport

__all__ = ["FileDamaged", "Options", "SQLiteTransport"]
