"""Buses by name: ``package.module:bus``, as other Python servers name their applications."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventbus._bus._core import BusCore
from eventbus._errors import ConfigurationError
from eventbus._topology import Topology


def load_bus(name: str) -> BusCore:
    """Import a bus; a function without parameters is called for it.

    :raises ConfigurationError: what is wrong with the name, or with the module.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise ConfigurationError(f"{name!r} names no bus: write package.module:bus")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ConfigurationError(
                f"there is no module {error.name!r} in {here} or among what is installed"
            ) from None
        raise ConfigurationError(f"{module_name} needs a module that is not installed: {error.name}") from error
    except Exception as error:
        raise ConfigurationError(f"importing {module_name} failed: {type(error).__name__}: {error}") from error
    try:
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except AttributeError:
        buses = [key for key, value in vars(found).items() if isinstance(value, BusCore)] if found else []
        hint = f"; it has {', '.join(buses)}" if buses else ""
        raise ConfigurationError(f"{module_name} has no {path!r}{hint}") from None
    if callable(found) and not isinstance(found, BusCore):
        try:
            found = found()
        except Exception as error:
            raise ConfigurationError(
                f"{name} was called to get a bus, and failed: {type(error).__name__}: {error}"
            ) from error
    if not isinstance(found, BusCore):
        raise ConfigurationError(f"{name} is no EventBus or AsyncEventBus but of type {type(found).__name__}")
    return found


def load_buses(names: Iterable[str]) -> dict[str, BusCore]:
    """Several, by name."""
    return {name: load_bus(name) for name in names}


def merged_topology(names: Iterable[str]) -> Topology:
    """The topology of several buses together.

    :raises ConfigurationError: two of them want one name with other properties; names both.
    """
    whole = Topology()
    before: list[str] = []
    for name, bus in load_buses(names).items():
        try:
            whole = whole.merged(bus.topology())
        except ConfigurationError as error:
            raise ConfigurationError(f"{name} does not fit {' and '.join(before)}: {error}") from None
        before.append(name)
    return whole
