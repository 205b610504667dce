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
            if not statement.startswith(beginning) or next(numbers) != nth:
                return super().execute(statement, *parameters)
            if when == "after":
                super().execute(statement, *parameters)
            program.record("accident", where=f"{when} {statement[:24]}")
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("a killed process goes on")

    real = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return real(*arguments, factory=Dying, **options)

    vars(sqlite3)["connect"] = connect
