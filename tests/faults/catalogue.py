"""All faults, by name."""

from __future__ import annotations

import inspect
from types import ModuleType

from tests.faults.fault import Fault
from tests.faults.kinds import (
    cluster,
    connections,
    handlers,
    network,
    programs,
    resources,
    security,
    sqlite,
    sqlite_killed,
    sqlite_room,
    surroundings,
    topology,
)

MODULES: tuple[ModuleType, ...] = (
    sqlite, sqlite_killed, sqlite_room,
    network, topology, resources, programs, handlers, surroundings, security, connections, cluster,
)  # fmt: skip
ORDER = ("file", "shared", "mortal", "cluster")


def faults() -> dict[str, type[Fault]]:
    """Every fault, in the order in which they run: by broker, so that each broker can go when it is done with."""
    found: list[type[Fault]] = []
    for module in MODULES:
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Fault) and cls.__module__ == module.__name__ and "name" in vars(cls):
                found.append(cls)
    return {cls.name: cls for cls in sorted(found, key=lambda cls: ORDER.index(cls.node))}


SHORT = (
    "closed-by-operator", "cut-in-frame", "worker-killed-before-ack", "unroutable",
    "sqlite-worker-killed-before-ack", "sqlite-few-publishers-killed", "sqlite-locked",
)  # fmt: skip
"""For every test run: a lost connection of each kind, a killed program, an outcome that is no confirm; a file."""

IN_SHORT = ("small-backlog", "sqlite-few-workers-killed", "sqlite-few-publishers-killed", "sqlite-small-crowd")

FULL = tuple(name for name in faults() if name not in IN_SHORT)
"""For the whole suite: those left out are others in short."""
