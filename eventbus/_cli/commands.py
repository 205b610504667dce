"""Groups of commands that installed distributions bring, named without importing them.

An entry point of ``eventbus.cli`` is a command by its name; one with a dot, such as ``topology.plan``, is a command of
a group that another distribution may have brought.
"""

from __future__ import annotations

from typing import Any, cast

import click

from eventbus._errors import ConfigurationError
from eventbus._plugins import CLI, load, names

# What brings the commands of our own distributions.
_EXTRAS = {
    "certs": "certs",
    "sqlite": "sqlite",
    **dict.fromkeys(
        ("broker", "doctor", "topology.plan", "topology.apply", "topology.export", "topology.permissions"), "admin"
    ),
}


class PluginGroup(click.Group):
    """A group whose commands are entry points; ``prefix`` is the group's own name with a dot, or empty."""

    def __init__(self, *args: Any, prefix: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.prefix = prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands that are installed."""
        below = (name.removeprefix(self.prefix) for name in names(CLI) if name.startswith(self.prefix))
        return sorted({name for name in below if "." not in name} | set(super().list_commands(ctx)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            return found
        if self.prefix + cmd_name not in names(CLI):
            return None
        command = cast("click.Command", load(CLI, self.prefix + cmd_name))
        if ctx.default_map and isinstance(table := ctx.default_map.get(cmd_name), dict):
            ctx.default_map[cmd_name] = by_parameter(command, table)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; one that is not installed says what to install."""
        extra = _EXTRAS.get(self.prefix + args[0])
        if extra is not None and not ctx.resilient_parsing and args[0] not in self.list_commands(ctx):
            name = (self.prefix + args[0]).replace(".", " ")
            raise ConfigurationError(
                f'the command {name!r} is not installed; install it with: pip install "eventbus[{extra}]"'
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List them; one that cannot be imported says why, instead of hiding the others."""
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except ConfigurationError as error:
                rows.append((name, f"(cannot be used: {error})"))
                continue
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(90)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def by_parameter(command: click.Command, table: dict[str, Any]) -> dict[str, Any]:
    """Settings of a command by the names of its parameters: people write those of its options.

    :raises ConfigurationError: it has no such option.
    """
    if isinstance(command, click.Group):
        return table
    known = {
        option.lstrip("-"): str(p.name) for p in command.params for option in (*p.opts, *p.secondary_opts, str(p.name))
    }
    unknown = set(table) - set(known)
    if unknown:
        raise ConfigurationError(f"[tool.eventbus] sets {', '.join(sorted(unknown))}, which {command.name} has not")
    return {known[name]: value for name, value in table.items()}
