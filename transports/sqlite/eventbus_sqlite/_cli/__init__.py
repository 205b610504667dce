"""``eventbus sqlite info | vacuum | check | delete FILE``: look at a bus file, and look after it."""

from __future__ import annotations

from eventbus_sqlite._cli._commands import sqlite

__all__ = ["sqlite"]
