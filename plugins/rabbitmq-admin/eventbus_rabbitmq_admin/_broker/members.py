"""Sees to it that the quorum queues of the definitions have all their members, once all nodes of a cluster are there.

A queue that a node makes from its definitions while another one is still joining may lack that one for ever. RabbitMQ
waits for ``cluster_formation.target_cluster_size_hint`` running nodes, but places the members on the nodes that its
schema lists; Mnesia changes a joining node's schema from memory to disk in two steps, and lists it nowhere in between
(``mnesia_schema:do_set_schema``, ``mnesia:system_info(db_nodes)``). Members are not added later by themselves.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eventbus_rabbitmq_admin._broker.running import BrokerFailed, Running

_DEFAULT_SIZE = 3
"""Members of a quorum queue that asks for no number. Source: https://www.rabbitmq.com/docs/quorum-queues."""
_PAUSE = 0.5


def lacking(
    queues: Iterable[Mapping[str, Any]], listed: Mapping[str, Sequence[str]], nodes: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The quorum queues of a definitions file that lack members, each with the nodes that shall get one.

    ``listed`` are the nodes of each queue's members, as the broker tells; a queue that it does not tell of lacks all.
    """
    found = {}
    for queue in queues:
        if queue["arguments"].get("x-queue-type") != "quorum":
            continue
        has = listed.get(queue["name"], ())
        wanted = min(len(nodes), queue["arguments"].get("x-quorum-initial-group-size", _DEFAULT_SIZE))
        if len(has) < wanted:
            found[queue["name"]] = tuple([node for node in nodes if node not in has][: wanted - len(has)])
    return found


def complete(nodes: Running, definitions: Mapping[str, Any], vhost: str, timeout: float) -> None:
    """Import the definitions, and return when each of their quorum queues has its members.

    :raises BrokerFailed: they lack some still when ``timeout`` seconds are over; the text names queues and nodes.
    """
    deadline = time.monotonic() + timeout
    while True:
        nodes.import_definitions()  # which passes over the queues while that node does not see all others
        missing = _grown(nodes, definitions["queues"], vhost)
        if not missing:
            return
        if time.monotonic() >= deadline:
            raise BrokerFailed(_complaint(missing))
        time.sleep(_PAUSE)


def _grown(nodes: Running, queues: Iterable[Mapping[str, Any]], vhost: str) -> dict[str, tuple[str, ...]]:
    """Add the members that are lacking; gives what is lacking still."""
    missing = lacking(queues, _listed(nodes, vhost), nodes.names())
    if not missing:
        return {}
    for node in nodes.names():
        if without := [queue for queue, lacks in missing.items() if node in lacks]:
            # Its exit code tells nothing of single queues: so we look again.
            nodes.ctl(
                ["grow", node, "all", "--vhost-pattern", _exactly([vhost]), "--queue-pattern", _exactly(without)],
                program="rabbitmq-queues",
            )
    return lacking(queues, _listed(nodes, vhost), nodes.names())


def _listed(nodes: Running, vhost: str) -> dict[str, list[str]]:
    told = json.loads(nodes.ctl(["list_queues", "-p", vhost, "name", "members", "--formatter", "json"]))
    return {queue["name"]: queue["members"] or [] for queue in told}


def _exactly(names: Iterable[str]) -> str:
    return f"^(?:{'|'.join(re.escape(name) for name in names)})$"


def _complaint(missing: Mapping[str, Sequence[str]]) -> str:
    queues = "; ".join(f"{queue!r} on {', '.join(nodes)}" for queue, nodes in missing.items())
    return (
        f"the cluster runs, but quorum queues lack members, so they survive fewer lost nodes: {queues}; the reason is "
        "in eventbus broker logs; eventbus broker up tries again"
    )
