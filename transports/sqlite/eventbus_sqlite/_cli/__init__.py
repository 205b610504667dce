"""``eventbus sqlite info | vacuum | check FILE``: look at a bus file, give room back, see whether it is whole."""

from __future__ import annotations

from eventbus_sqlite._cli._commands import sqlite

__all__ = ["sqlite"]
