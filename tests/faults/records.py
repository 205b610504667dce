"""What the programs have written down, read as it grows. Knows nothing of eventbus, and imports nothing of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Fact = dict[str, Any]


@dataclass
class Attempt:
    """One publish."""

    t: float
    pid: int
    key: str
    seq: int
    outcome: Fact | None = None


@dataclass
class Arrival:
    """One call of a handler."""

    t: float
    pid: int
    fact: Fact
    end: float | None = None
    ok: bool = False


@dataclass
class Log:
    """The facts of one side, read as they grow."""

    folder: Path
    attempts: dict[str, Attempt] = field(default_factory=dict)
    outcomes: dict[str, Fact] = field(default_factory=dict)
    arrivals: dict[str, dict[str, list[Arrival]]] = field(default_factory=lambda: defaultdict(dict))
    others: list[Fact] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    _read: dict[Path, int] = field(default_factory=dict)
    _open: dict[tuple[int, str, int], Arrival] = field(default_factory=dict)

    def poll(self) -> Log:
        """Read what is new."""
        for file in sorted(self.folder.glob("*.jsonl")):
            for fact in self._new(file):
                self._take(fact)
        return self

    def _new(self, file: Path) -> Iterator[Fact]:
        with file.open("rb") as lines:
            lines.seek(self._read.get(file, 0))
            data = lines.read()
        whole = data.rfind(b"\n") + 1  # a killed process may leave half a line
        self._read[file] = self._read.get(file, 0) + whole
        return map(json.loads, data[:whole].splitlines())

    def _take(self, fact: Fact) -> None:
        kind = fact["kind"]
        if kind == "attempt":
            self.attempts[fact["id"]] = Attempt(fact["t"], fact["pid"], fact["key"], fact["seq"])
        elif kind == "outcome":
            if fact["id"] in self.outcomes:
                self.odd.append(f"{fact['id']} has two outcomes")
            self.outcomes[fact["id"]] = fact
            self.attempts[fact["id"]].outcome = fact
        elif kind == "begin":
            arrival = Arrival(fact["t"], fact["pid"], fact)
            self.arrivals[fact["group"]].setdefault(fact["id"], []).append(arrival)
            self._open[fact["pid"], fact["group"], fact["n"]] = arrival
        elif kind == "end":
            ended = self._open.pop((fact["pid"], fact["group"], fact["n"]), None)
            if ended is not None:
                ended.end, ended.ok = fact["t"], fact["ok"]
        else:
            self.others.append(fact)

    # -- counts ---------------------------------------------------------------------------------------------

    def confirmed(self) -> set[str]:
        """Messages whose publish returned."""
        return {id_ for id_, fact in self.outcomes.items() if fact["outcome"] == "confirmed"}

    def handled(self, group: str) -> set[str]:
        """Messages of which a handler returned."""
        return {id_ for id_, arrivals in self.arrivals[group].items() if any(a.ok for a in arrivals)}

    def missing(self, groups: Iterable[str], dead: Iterable[str] = ()) -> set[str]:
        """Confirmed messages that a group has not handled."""
        confirmed = self.confirmed() - set(dead)
        return {id_ for group in groups for id_ in confirmed - self.handled(group)}

    def facts(self, kind: str, **like: Any) -> list[Fact]:
        """Other facts of a kind."""
        return [f for f in self.others if f["kind"] == kind and all(f.get(k) == v for k, v in like.items())]
