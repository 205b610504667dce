"""Quorum queues that lack members: which, and what ``eventbus broker up`` says when it cannot help them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from eventbus_rabbitmq_admin._broker.members import complete, lacking
from eventbus_rabbitmq_admin._broker.running import BrokerFailed

NODES = ["a@localhost", "b@localhost", "c@localhost"]


def queue(name: str, **arguments: Any) -> dict[str, Any]:
    given = {"x-queue-type": "quorum"} | {key.replace("_", "-"): value for key, value in arguments.items()}
    return {"name": name, "arguments": given}


@pytest.mark.parametrize(
    ("made", "has", "nodes", "lacks"),
    [
        (queue("q"), NODES, NODES, None),
        (queue("q"), NODES[1:], NODES, NODES[:1]),
        (queue("q"), [], NODES, NODES),
        (queue("q"), NODES[:1], NODES[:2], NODES[1:2]),
        (queue("q"), NODES[1:2], [*NODES, "d@localhost", "e@localhost"], ["a@localhost", "c@localhost"]),
        (queue("q"), NODES, [*NODES, "d@localhost", "e@localhost"], None),
        (queue("q", x_quorum_initial_group_size=1), NODES[:1], NODES, None),
        (queue("q", x_quorum_initial_group_size=2), NODES[:1], NODES, NODES[1:2]),
        (queue("q", x_queue_type="classic"), [], NODES, None),
    ],
)
def test_a_quorum_queue_lacks_members_up_to_three_or_what_it_asks_for(
    made: dict[str, Any], has: list[str], nodes: list[str], lacks: list[str] | None
) -> None:
    assert lacking([made], {"q": has}, nodes) == ({} if lacks is None else {"q": tuple(lacks)})


def test_a_queue_that_the_broker_does_not_tell_of_lacks_all() -> None:
    assert lacking([queue("q")], {"other": NODES}, NODES) == {"q": tuple(NODES)}


class Stubborn:
    """A cluster whose queues get no members, in spite of all commands."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []

    def names(self) -> list[str]:
        return NODES

    def import_definitions(self) -> None:
        self.asked.append(["import_definitions"])

    def ctl(self, arguments: Sequence[str], *, program: str = "rabbitmqctl") -> str:
        self.asked.append([program, *arguments])
        return json.dumps([{"name": name, "members": NODES[:2]} for name in ("a.b", "a.b.dead")])

    def start(self, timeout: float) -> None: ...

    def stop(self, *, discard: bool = False) -> None: ...

    def running(self) -> list[bool]:
        return [True] * 3

    def hosts(self) -> str:
        return ""

    def logs(self, number: int) -> str:
        return ""


def test_queues_that_get_no_members_are_named() -> None:
    nodes = Stubborn()
    with pytest.raises(BrokerFailed, match=r"'a\.b' on c@localhost; 'a\.b\.dead' on c@localhost"):
        complete(nodes, {"queues": [queue("a.b"), queue("a.b.dead")]}, "shop/1", timeout=0)
    (grown,) = [words for words in nodes.asked if "grow" in words]
    assert grown[:4] == ["rabbitmq-queues", "grow", "c@localhost", "all"]
    matched = [name for name in ("a.b", "a.b.dead", "a-b", "a.b.dead2", "xa.b") if re.search(grown[-1], name)]
    assert matched == ["a.b", "a.b.dead"]
    assert re.search(grown[5], "shop/1")
    assert not re.search(grown[5], "shop/11")
