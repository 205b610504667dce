"""A cluster of three nodes: it forms, and loses the leader of a queue without losing what was confirmed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker
from eventbus_rabbitmq.local_cluster import LocalCluster

from eventbus import AsyncEventBus, EventBus, PublishError
from eventbus.testing import eventually


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3) as cluster:
        yield cluster


def leader_of(cluster: LocalCluster, queue: str) -> LocalBroker:
    """The node that leads a queue; what it knows of queues is on disk, on every node."""
    for node in cluster.nodes:
        node.sync()
    lines = [line.split("\t") for line in cluster.ctl("list_queues", "name", "leader").splitlines()]
    leader = next(leader for name, leader in lines if name == queue)
    return next(node for node in cluster.nodes if f"{node.name}@localhost" == leader)


def test_the_leader_of_a_queue_is_killed_and_publishing_goes_on(cluster: LocalCluster) -> None:
    seen: list[Any] = []
    with EventBus(cluster.url, service="cluster", timeout=30) as bus:
        bus.subscribe(pattern="x", name="all", group="g")(lambda event: seen.append(event["n"]))
        bus.wait_ready(30)
        bus.publish({"n": 1}, topic="x", mandatory=True)
        leader_of(cluster, "g.all").kill()

        def confirmed() -> bool:
            try:
                bus.publish({"n": 2}, topic="x", mandatory=True)
            except PublishError:  # until the queue has a new leader, the broker refuses
                return False
            return True

        eventually(confirmed, timeout=20)
        eventually(lambda: {1, 2} <= set(seen), timeout=30)


def test_the_async_bus_goes_on_too(cluster: LocalCluster) -> None:
    async def run() -> None:
        seen: list[Any] = []
        async with AsyncEventBus(cluster.url, service="cluster", timeout=30) as bus:

            @bus.subscribe(pattern="x", name="all", group="g")
            async def see(event: Any) -> None:
                seen.append(event["n"])

            await bus.wait_ready(30)
            await bus.publish({"n": 1}, topic="x", mandatory=True)
            leader = await asyncio.to_thread(leader_of, cluster, "g.all")
            await asyncio.to_thread(leader.kill)
            async with asyncio.timeout(40):
                while True:
                    try:
                        await bus.publish({"n": 2}, topic="x", mandatory=True)
                        break
                    except PublishError:
                        await asyncio.sleep(0.05)
                while not {1, 2} <= set(seen):
                    await asyncio.sleep(0.05)

    asyncio.run(run())


def test_the_leaders_of_a_services_queues_are_on_more_than_one_node(cluster: LocalCluster) -> None:
    with EventBus(cluster.nodes[0].url, service="spread") as bus:
        for number in range(6):
            bus.subscribe(pattern=f"x.{number}", name=f"n{number}")(lambda event: None)
        bus.wait_ready(60)
        lines = [line.split("\t") for line in cluster.ctl("list_queues", "name", "leader").splitlines()]
        leaders = {leader for name, leader in lines if name.startswith("spread.")}
    assert len(leaders) > 1


def test_a_node_that_was_stopped_joins_again(cluster: LocalCluster) -> None:
    def running() -> int:
        return len(json.loads(cluster.ctl("cluster_status", "--formatter", "json"))["running_nodes"])

    cluster.nodes[1].stop()
    assert running() == 2
    cluster.nodes[1].start()
    eventually(lambda: running() == 3, timeout=30)
