"""All faults, by name."""

from __future__ import annotations

import inspect
from types import ModuleType

from tests.faults.harness import Fault
from tests.faults.kinds import cluster, connections, network, programs, resources, security, surroundings, topology

MODULES: tuple[ModuleType, ...] = (connections, network, topology, resources, programs, security, surroundings, cluster)


def faults() -> dict[str, type[Fault]]:
    """Every fault of the suite, in the order in which they run."""
    found: dict[str, type[Fault]] = {}
    for module in MODULES:
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Fault) and cls.__module__ == module.__name__ and "name" in vars(cls):
                found[cls.name] = cls
    return found
