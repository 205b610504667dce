"""Buses by name: ``package.module:bus``, as other Python servers name their applications."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventbus._bus._core import BusCore
from eventbus._bus._health import one_line
from eventbus._errors import ConfigurationError
from eventbus._topology import Topology


def load_bus(name: str) -> BusCore:
    """Import a bus; a function without parameters is called for it.

    :raises ConfigurationError: what is wrong with the name, or with the module.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise ConfigurationError(f"{name!r} names no bus: write package.module:bus")
    if "/" in module_name or module_name.startswith("."):
        raise ConfigurationError(f"{name!r} names no module: write package.module:bus{_meant(module_name, path)}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ConfigurationError(
                f"there is no module {error.name!r} in {here} or among what is installed{_meant(module_name, path)}"
            ) from None
        raise ConfigurationError(f"{module_name} needs a module that is not installed: {error.name}") from error
    except Exception as error:
        raise ConfigurationError(f"importing {module_name} failed: {_told(error)}") from error
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
            raise ConfigurationError(f"{name} was called to get a bus, and failed: {_told(error)}") from error
    if not isinstance(found, BusCore):
        raise ConfigurationError(f"{name} is no EventBus or AsyncEventBus but of type {type(found).__name__}")
    return found


def _meant(module_name: str, path: str) -> str:
    """A question to those who gave a file instead of a module."""
    meant = module_name.removesuffix(".py").replace("/", ".").strip(".")
    return f"; did you mean {meant}:{path}?" if meant not in ("", module_name) else ""


def _told(error: Exception) -> str:
    """An error of the program in a line, with the place in its own code, not in a library's."""
    told = f"{type(error).__name__}: {one_line(error)}"
    here = str(Path.cwd())
    places = [
        f"{frame.f_code.co_filename}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename.startswith(here) and "site-packages" not in frame.f_code.co_filename
    ]
    return f"{told} ({places[-1]})" if places else told


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
