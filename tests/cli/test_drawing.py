"""Pictures of a topology."""

from __future__ import annotations

from eventbus import Binding
from eventbus._cli.drawing import condition
from tests.cli.conftest import Command

PARTITIONED = """
from apps import Registered, bus as other
from eventbus import EventBus
bus = EventBus("memory://", service="parts")
bus.subscribe(Registered, partitions=2)(lambda event: None)
"""


def test_a_match_of_many_headers_is_told_in_short() -> None:
    few = {"x-match": "any", "tenant": "x"}
    many = {"x-match": "any", **{f"eventbus-slot-{slot}": True for slot in range(20)}}
    assert condition(Binding(exchange="e", queue="q", arguments=few)) == "x-match=any, tenant=x"
    shown = condition(Binding(exchange="e", queue="q", arguments=many))
    assert shown == "x-match=any, eventbus-slot-0=True, eventbus-slot-1=True, and 18 more"


def test_the_queues_of_partitions_are_shown_with_the_way_to_them(command: Command) -> None:
    (command.folder / "parts.py").write_text(PARTITIONED)
    tree = command.run("topology", "show", "parts:bus", COLUMNS="200").stdout
    assert "-> parts.cli.registered.partitions (cli.registered.*)" in tree
    assert "-> parts.cli.registered.1 (x-match=any, eventbus-slot-1=True, eventbus-slot-3=True, and 30 more)" in tree
    picture = command.run("topology", "show", "parts:bus", "--format", "mermaid").stdout
    assert "parts.cli.registered.0" in picture
