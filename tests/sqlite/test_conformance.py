"""The SQLite transport keeps the contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from eventbus_sqlite import SQLiteTransport

from eventbus.testing import ConformanceSuite
from eventbus.transport import Transport
from tests.sqlite.files import end_all_sessions


class TestSQLite(ConformanceSuite):
    option_sets: ClassVar = {"full": {"synchronous": "FULL"}, "normal": {"synchronous": "NORMAL"}}
    # There is no broker to be restarted. That what is confirmed outlives all processes, other tests here see.
    lacks: ClassVar = {"direct-reply", "restart"}

    folder: ClassVar[Path]

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        type(self).folder = tmp_path

    def make_transport(self, options: Mapping[str, Any]) -> Transport:
        return SQLiteTransport(self.folder / "bus.db", **options)

    def disconnect(self, transport: Transport) -> None:
        assert isinstance(transport, SQLiteTransport)
        end_all_sessions(transport.path)
