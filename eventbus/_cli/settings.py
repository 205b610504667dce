"""Where settings come from: options, then EVENTBUS_* variables, then ``[tool.eventbus]`` of pyproject.toml.

::

    [tool.eventbus]
    url = "amqp://guest:guest@localhost/"     # better in EVENTBUS_URL: a file is read by more people
    app = ["shop.billing:bus", "shop.emails:bus"]

    [tool.eventbus.run]                       # options of one command, by its name
    workers = 4
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from eventbus._errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

_SHARED = ("url", "app")


class Settings:
    """What ``[tool.eventbus]`` says: ``shared`` values, and options of commands by name."""

    def __init__(self, table: Mapping[str, Any], origin: Path | None = None) -> None:
        self.origin = origin
        self.debug = False
        self.shared = {name: table[name] for name in _SHARED if name in table}
        self.commands = {name: value for name, value in table.items() if isinstance(value, dict)}
        unknown = set(table) - set(self.shared) - set(self.commands)
        if unknown:
            raise ConfigurationError(
                f"{origin}: [tool.eventbus] has no {', '.join(sorted(unknown))}; known are {', '.join(_SHARED)} and a "
                "table for each command"
            )
        if not isinstance(table.get("url", ""), str):
            raise ConfigurationError(f"{origin}: url in [tool.eventbus] is not a text")
        app = table.get("app", "")
        if not isinstance(app, str) and not (isinstance(app, list) and all(isinstance(name, str) for name in app)):
            raise ConfigurationError(f"{origin}: app in [tool.eventbus] is neither a text nor a list of texts")

    @classmethod
    def found(cls, start: Path | None = None) -> Settings:
        """From the nearest pyproject.toml, here or above."""
        here = (start or Path.cwd()).absolute()
        for folder in (here, *here.parents):
            file = folder / "pyproject.toml"
            if os.path.isfile(file):  # unlike Path's, no error in a folder that we may not look into
                try:
                    table: Any = tomllib.loads(file.read_text(encoding="utf-8"))
                except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
                    raise ConfigurationError(f"{file} cannot be read: {error}") from error
                for name in ("tool", "eventbus"):
                    table = table.get(name, {})
                    if not isinstance(table, dict):
                        raise ConfigurationError(f"{file}: {name} of [tool.eventbus] is no table")
                return cls(table, file)
        return cls({})


def from_environment(name: str) -> str | None:
    """The value of a variable, or of the file that ``<name>_FILE`` names (for secrets of Docker and Kubernetes)."""
    value = os.environ.get(name)
    file = os.environ.get(f"{name}_FILE")
    if value and file:
        raise ConfigurationError(f"both {name} and {name}_FILE are set; set one of them")
    if file:
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the file of {name}_FILE cannot be read: {error}") from error
    return value or None


def _settings(ctx: click.Context) -> Settings:
    found = ctx.find_root().obj
    return found if isinstance(found, Settings) else Settings({})


def _url(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    url = value or from_environment("EVENTBUS_URL") or _settings(ctx).shared.get("url")
    if url is None and parameter.required_by_us:  # type: ignore[attr-defined]
        raise click.UsageError("no broker: give --url, or set EVENTBUS_URL (or url in [tool.eventbus])", ctx)
    return url


class _UrlOption(click.Option):
    required_by_us = True


class _OptionalUrlOption(click.Option):
    required_by_us = False


def url_option(*, required: bool = True) -> Callable[[F], F]:
    """``--url``: the broker. Where not ``required``, the command gets None when nobody says."""
    return click.option(
        "--url",
        cls=_UrlOption if required else _OptionalUrlOption,
        metavar="URL",
        callback=_url,
        allow_from_autoenv=False,
        help="Broker; default: EVENTBUS_URL. Others on this machine can read command lines, so prefer the variable "
        "for a URL with a password.",
    )


def _apps(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    given: Any = value or from_environment("EVENTBUS_APP") or _settings(ctx).shared.get("app") or ()
    apps = tuple(given.split()) if isinstance(given, str) else tuple(given)
    if not apps and parameter.required:
        raise click.UsageError("no bus: name one as package.module:bus (or set EVENTBUS_APP)", ctx)
    return apps


class _Apps(click.Argument):
    """Empty is allowed until the callback has asked the environment."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        given = tuple(value) if isinstance(value, (tuple, list)) else ()  # click has a sentinel for nothing given
        return _apps(ctx, self, given)


def apps_argument(*, required: bool = True) -> Callable[[F], F]:
    """``APP...``: buses as ``package.module:bus``; default: EVENTBUS_APP, then ``app`` of [tool.eventbus]."""
    return click.argument(
        "apps", metavar="APP...", nargs=-1, cls=_Apps, required=required, shell_complete=lambda *_: []
    )


def app_option() -> Callable[[F], F]:
    """``--app APP``, several times: buses whose code tells types and topology; default as for the argument."""
    return click.option(
        "--app",
        "apps",
        multiple=True,
        metavar="APP",
        callback=_apps,
        allow_from_autoenv=False,
        help="A bus as package.module:bus, for what its code knows; several times for several.",
    )
