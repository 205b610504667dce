"""Folders with programs to serve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.run.running import Folder


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Python keeps what it has compiled."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def folder(tmp_path: Path, compiled: Path) -> Iterator[Folder]:
    """A folder to run commands in."""
    # The nearest pyproject.toml is this one, wherever temporary folders are.
    (tmp_path / "pyproject.toml").write_text("")
    folder = Folder(tmp_path, compiled)
    yield folder
    folder.close()
