"""For authors of commands: what a distribution needs to bring a sub-command of ``eventbus``.

A command is a :class:`click.Command` under the entry-point group ``eventbus.cli``; its name is the command's, and a
name with a dot (``topology.plan``) puts it into a group. Errors that are :class:`eventbus.EventBusError` become a line
on standard error and an exit code (:mod:`eventbus._cli.exits`); a command may also return its code. Import what is slow
inside the function: ``eventbus --help`` imports every command.
"""

from __future__ import annotations

from eventbus._cli.apps import load_bus, load_buses
from eventbus._cli.commands import PluginGroup
from eventbus._cli.exits import CONFIG, DIFFERS, DONE, FAILED, REFUSED, UNAVAILABLE, USAGE
from eventbus._cli.output import console, json_option, print_json, print_table
from eventbus._cli.settings import app_option, apps_argument, from_environment, url_option

__all__ = [
    "CONFIG", "DIFFERS", "DONE", "FAILED", "REFUSED", "UNAVAILABLE", "USAGE", "PluginGroup", "app_option",
    "apps_argument", "console", "from_environment", "json_option", "load_bus", "load_buses", "print_json",
    "print_table", "url_option",
]  # fmt: skip
