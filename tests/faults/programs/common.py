"""What publisher and worker share: their settings, their commands, the event, and how they tell of themselves."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventbus import EventBusError, Health, Request, event
from tests.faults.programs.recorder import Recorder

TICK = 0.1


@event("faults.step", topic="step.{side}")
@dataclass(frozen=True, kw_only=True)
class Step:
    """One message of the load. ``id`` is the load's own, apart from the message's id."""

    id: str
    side: str
    key: str
    seq: int
    pad: str = ""


@event("faults.question", topic="question.{side}")
@dataclass(frozen=True, kw_only=True)
class Question(Request[str]):
    """A request of the load."""

    id: str
    side: str


class Settings(dict[str, Any]):
    """What the harness wants of a program. It comes as the first line of standard input, as it has a password in it."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Program:
    """Settings, records and commands of one process."""

    def __init__(self) -> None:
        self.settings = Settings(json.loads(sys.stdin.readline()))
        self.record = Recorder(Path(self.settings.records))
        self.commands: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self.paused = threading.Event()
        self.work = float(self.settings.work)
        self.accident = ""
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
        random.seed(self.settings.seed)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(threadName)s %(name)s %(levelname)s %(message)s")
        for hook in self.settings.hooks:
            module, _, name = hook.partition(":")
            getattr(importlib.import_module(module), name)(self)
        self.on_command: Callable[[str], None] = lambda command: None
        threading.Thread(target=self._listen, name="commands", daemon=True).start()
        self.record.state("before")

    def _listen(self) -> None:
        for line in sys.stdin:
            command = line.strip()
            self.record("command", command=command)
            if command == "stop":
                self.stopping.set()
            elif command == "pause":
                self.paused.set()
            elif command == "resume":
                self.paused.clear()
            elif command.startswith("work "):
                self.work = float(command[5:])
            elif command.startswith("accident "):
                self.accident = command[9:]
            elif command == "tell":
                self.record.state("told", wall=time.time())
            else:
                self.commands.put(command)
        self.stopping.set()  # the harness is gone
        if os.getppid() == 1:
            os._exit(9)

    def bus_options(self) -> dict[str, Any]:
        """Parameters that both buses take."""
        settings = self.settings
        return {
            "service": settings.service,
            "timeout": settings.timeout,
            "window": settings.window,
            "grace": settings.grace,
            "mandatory": True,
        }

    def watch(self, health: Health, last: list[Any]) -> None:
        """Record the health when it has changed."""
        seen: list[Any] = [health.status, health.blocked, health.error, dict(health.consumers), dict(health.errors)]
        seen += [health.reconnects, health.settlements_dropped]
        if seen != last:
            last[:] = seen
            names = ("status", "blocked", "error", "consumers", "errors", "reconnects", "stale")
            self.record("health", **dict(zip(names, seen, strict=True)))

    def fatal(self, error: BaseException) -> int:
        """Record what ended the program; gives its exit code."""
        self.record("fatal", **told(error))
        return 3


def told(error: BaseException | None) -> dict[str, Any]:
    """An outcome or an error as facts."""
    if error is None:
        return {"outcome": "confirmed"}
    return {
        "outcome": getattr(error, "outcome", "error"),
        "error": type(error).__name__,
        "text": str(error)[:400],
        "ours": isinstance(error, EventBusError),
    }
