"""A topology as a picture: Mermaid and Graphviz text."""

from __future__ import annotations

from typing import NamedTuple

from eventbus._topology import Access, Binding, Queue, Topology

MOST_HEADERS = 6


class Node(NamedTuple):
    """Something in the picture; ``kind`` is service, exchange or queue."""

    id: str
    kind: str
    label: str


class Arrow(NamedTuple):
    """From a node's id to another's."""

    start: str
    end: str
    label: str


class Picture:
    """Services that publish, exchanges, queues, and services that consume."""

    def __init__(self, topology: Topology) -> None:
        self._nodes: dict[tuple[str, str], Node] = {}
        self.arrows: list[Arrow] = []
        for exchange in topology.exchanges:
            self._node("exchange", exchange.name, f"{exchange.name or '(default)'} ({exchange.kind})")
        for access in topology.services:
            self._service(access)
        for binding in topology.bindings:
            if binding.to_exchange is not None:
                self._arrow(("exchange", binding.exchange), ("exchange", binding.to_exchange), binding.pattern)

    @property
    def nodes(self) -> list[Node]:
        """In the order of their first appearance."""
        return list(self._nodes.values())

    def _service(self, access: Access) -> None:
        service = ("service", access.service)
        self._node(*service)
        for write in access.writes:
            self._arrow(service, ("exchange", write.exchange), write.pattern)
        for queue in access.queues:
            # Each service has server-named queues of its own.
            name = queue.name or f"(a queue of each {access.service})"
            self._arrow(("queue", name), service, "")
            for binding in access.bindings:
                if binding.queue == queue.name:
                    key = binding.pattern or condition(binding)
                    self._arrow(("exchange", binding.exchange), ("queue", name), key)
            self._dead_letters(queue, name)

    def _dead_letters(self, queue: Queue, name: str) -> None:
        if queue.dead_letter:
            self._arrow(("queue", name), ("queue", queue.dead_letter), "dead letters")

    def _node(self, kind: str, name: str, label: str = "") -> str:
        key = (kind, name)
        if key not in self._nodes:
            self._nodes[key] = Node(f"{kind[0]}{len(self._nodes)}", kind, label or name)
        return self._nodes[key].id

    def _arrow(self, start: tuple[str, str], end: tuple[str, str], label: str) -> None:
        arrow = Arrow(self._node(*start), self._node(*end), label)
        if arrow not in self.arrows:
            self.arrows.append(arrow)


def condition(binding: Binding) -> str:
    """The header match of a binding; the first few of many headers, which partitions have."""
    shown = [f"{name}={value}" for name, value in binding.arguments.items()]
    return ", ".join(shown if len(shown) <= MOST_HEADERS else [*shown[:3], f"and {len(shown) - 3} more"])


_MERMAID = {"service": ('(["', '"])'), "exchange": ('{{"', '"}}'), "queue": ('[("', '")]')}
_DOT = {"service": "box, style=rounded", "exchange": "hexagon", "queue": "cylinder"}


def mermaid(topology: Topology) -> str:
    """Text of a Mermaid flow chart."""
    drawn = Picture(topology)
    lines = ["flowchart LR"]
    for node in drawn.nodes:
        left, right = _MERMAID[node.kind]
        lines.append(f"  {node.id}{left}{_mermaid_text(node.label)}{right}")
    for arrow in drawn.arrows:
        label = f'|"{_mermaid_text(arrow.label)}"|' if arrow.label else ""
        lines.append(f"  {arrow.start} -->{label} {arrow.end}")
    return "\n".join(lines)


def dot(topology: Topology) -> str:
    """Text of a Graphviz graph."""
    drawn = Picture(topology)
    lines = ["digraph topology {", "  rankdir=LR;"]
    lines += [f"  {node.id} [label={_dot_text(node.label)}, shape={_DOT[node.kind]}];" for node in drawn.nodes]
    lines += [f"  {arrow.start} -> {arrow.end} [label={_dot_text(arrow.label)}];" for arrow in drawn.arrows]
    return "\n".join([*lines, "}"])


def _mermaid_text(text: str) -> str:
    return text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def _dot_text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
