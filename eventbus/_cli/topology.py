"""``eventbus topology``: what the buses of some programs need at a broker. Transports add what they can do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from eventbus._cli.commands import PluginGroup
from eventbus._cli.output import console, json_option, print_json
from eventbus._cli.settings import apps_argument

if TYPE_CHECKING:
    from eventbus._topology import Topology


@click.group(
    cls=PluginGroup,
    prefix="topology.",
    epilog='\b\nMore commands come with: pip install "eventbus[admin]"',
)
def topology() -> None:
    """Exchanges, queues, bindings and permissions, as the code needs them."""


@click.command(
    epilog="\b\nExamples:\n  eventbus topology show shop.billing:bus shop.emails:bus\n"
    "  eventbus topology show shop.billing:bus --format mermaid > topology.mmd\n"
    "  eventbus topology show shop.billing:bus --format dot | dot -Tsvg > topology.svg"
)
@apps_argument()
@click.option(
    "--format",
    "kind",
    type=click.Choice(["tree", "json", "mermaid", "dot"]),
    default="tree",
    show_default=True,
    help="A tree for people, JSON, or a picture as Mermaid or Graphviz text.",
)
@json_option()
def show(apps: tuple[str, ...], kind: str, as_json: bool) -> None:
    """Show the topology of one or more buses together."""
    from eventbus._cli import drawing
    from eventbus._cli.apps import merged_topology

    whole = merged_topology(apps)
    if as_json or kind == "json":
        print_json(whole)
    elif kind == "mermaid":
        click.echo(drawing.mermaid(whole))
    elif kind == "dot":
        click.echo(drawing.dot(whole))
    else:
        _print_tree(whole)


def _print_tree(whole: Topology) -> None:
    from rich.markup import escape
    from rich.tree import Tree

    from eventbus._cli.drawing import condition

    root = Tree("[bold]topology[/bold]")
    for exchange in whole.exchanges:
        kept = "" if exchange.durable else ", not durable"
        name = escape(exchange.name) or "(default exchange)"
        branch = root.add(f"[cyan]{name}[/cyan] ({exchange.kind} exchange{kept})")
        for access in whole.services:
            for write in access.writes:
                if write.exchange == exchange.name:
                    branch.add(
                        f"<- [green]{escape(access.service)}[/green] {escape(write.what)} ({escape(write.pattern)})"
                    )
        for binding in whole.bindings:
            if binding.exchange == exchange.name:
                target = binding.to_exchange if binding.queue is None else binding.queue or "(server-named queue)"
                match = binding.pattern or condition(binding) or "all"
                branch.add(f"-> {escape(str(target))} ({escape(match)})")
    queues = root.add("queues")
    for queue in whole.queues:
        readers = ", ".join(access.service for access in whole.services if queue in access.queues)
        dead = f", dead letters to {escape(queue.dead_letter)}" if queue.dead_letter else ""
        life = " until its last consumer goes" if queue.auto_delete else ""
        name = escape(queue.name) or "(server-named)"
        queues.add(f"[cyan]{name}[/cyan] {queue.type or 'durable'}{life}{dead} [green]{escape(readers)}[/green]")
    for policy in whole.policies:
        root.add(
            f"policy {escape(policy.name)}: {escape(policy.pattern)} ({policy.apply_to}) {dict(policy.definition)}"
        )
    console().print(root)
