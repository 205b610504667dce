"""``eventbus completion``: the script that makes a shell complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(epilog="\b\nExamples:\n  eventbus completion bash >> ~/.bashrc\n  eventbus completion zsh >> ~/.zshrc")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "eventbus", "_EVENTBUS_COMPLETE").source())
