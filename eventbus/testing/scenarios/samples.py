"""Event classes of the scenarios, and a place to collect what handlers saw."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from eventbus._events import Request
from eventbus.testing._eventually import eventually

T = TypeVar("T")


@dataclass(frozen=True)
class Number:
    """An event."""

    value: int = 0
    kind: str = "plain"


@dataclass(frozen=True)
class Word:
    """Another event."""

    text: str = ""


@dataclass(frozen=True)
class Double(Request[int]):
    """A request: what is twice this?"""

    value: int = 0


@dataclass
class Seen(Generic[T]):
    """What handlers saw, in order; from any thread."""

    all: list[T] = field(default_factory=list)

    def add(self, item: T) -> None:
        """One more."""
        self.all.append(item)

    def wait(self, count: int = 1, timeout: float = 10.0) -> list[T]:
        """All, once there are ``count``."""
        eventually(lambda: len(self.all) >= count, timeout, what=f"{count} calls of the handler")
        return self.all


class Gauge:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self.now -= 1


def noting(seen: Seen[Any]) -> Callable[[Any], None]:
    """A handler that notes the event."""

    def handle(event: Any) -> None:
        seen.add(event)

    return handle
