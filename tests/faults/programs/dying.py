"""A hook that ends a program at a chosen statement of a transaction, as SIGKILL at that very moment would."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
from typing import Any

from tests.faults.programs.common import Program


def at_statement(program: Program) -> None:
    """Die at the n-th statement that begins so: ``die`` of the settings is ``[beginning, n, "before" or "after"]``."""
    wanted = program.settings.get("die")
    if wanted is None:
        return
    program.record("plan", die=wanted)
    beginning, nth, when = wanted
    numbers = itertools.count(1)

    class Dying(sqlite3.Connection):
        def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
            mine = statement.startswith(beginning)
            if mine and when == "before":
                self._count(statement)
            done = super().execute(statement, *parameters)
            if mine and when == "after":  # one that has failed, as on a locked file, does not count
                self._count(statement)
            return done

        def _count(self, statement: str) -> None:
            if next(numbers) == nth:
                program.record("accident", where=f"{when} {statement[:24]}")
                os.kill(os.getpid(), signal.SIGKILL)

    real = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return real(*arguments, factory=Dying, **options)

    vars(sqlite3)["connect"] = connect
