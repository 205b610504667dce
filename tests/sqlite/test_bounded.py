"""Queues with a bound: it holds whoever writes, and costs nothing per message."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from eventbus_sqlite._options import Options
from eventbus_sqlite._store import Store

from eventbus.transport import Message, Queue
from tests.sqlite.files import opened


def message(number: int, *, priority: int = 0, ttl: float | None = None) -> Message:
    return Message(exchange="", topic="q", id=str(number), type="t", body=b"", priority=priority, ttl=ttl)


def size(path: Path) -> int:
    with opened(path) as connection:
        return int(connection.execute("SELECT count(*) FROM ready").fetchone()[0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("overflow", ["drop-head", "reject-publish"])
def test_two_processes_that_publish_claim_and_settle_keep_the_bound(tmp_path: Path, overflow: str, seed: int) -> None:
    path, luck = tmp_path / "bus.db", random.Random(seed)
    stores = [Store(path, Options()) for _ in range(2)]
    stores[0].start(None, durable=False)
    stores[0].declare(Queue(name="q", max_length=10, arguments={"x-overflow": overflow}), None)
    sessions = [stores[0].attach("s", f"@{number}", "x") for number in range(2)]
    stores[0].commit()
    tokens: list[list[int]] = [[], []]
    for step in range(200):
        which = luck.randrange(2)
        store, session, held = stores[which], sessions[which], tokens[which]
        before, returned = size(path), 0
        store.start(session, durable=False)
        queue = store.queue("q")
        for _ in range(luck.randrange(1, 8)):
            outcome = store.publish(message(step, ttl=luck.choice((None, None, 0.0))))
            assert outcome is None or overflow == "reject-publish"
        store.pass_time()
        first, count = store.claim(queue, session, 1, luck.randrange(4))
        held += range(first, first + count)
        if luck.random() < 0.3 and held:
            token = luck.choice(held)
            assert store.ack([token]) == 1
            held.remove(token)
        if luck.random() < 0.1:
            returned = len(held)
            store.take_back("session", session)
            held.clear()
        if luck.random() < 0.1:
            store.rollback()
            with opened(path) as connection:
                held[:] = [id for (id,) in connection.execute("SELECT id FROM held WHERE session = ?", (session,))]
        else:
            store.commit()
        # What comes back to a queue that refuses has its place all the same.
        assert size(path) <= (10 if overflow == "drop-head" else max(10, before) + returned)
    store = stores[0]
    store.start(sessions[0], durable=False)
    known = store._sizes.of(store.queue("q").id)
    store.rollback()
    assert known == size(path)
    for store in stores:
        store.close()


def test_a_message_more_costs_the_same_in_a_long_queue(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    store = Store(path, Options(synchronous="NORMAL"))
    store.start(None, durable=False)
    store.declare(Queue(name="q", max_length=1_000_000, arguments={"x-overflow": "reject-publish"}), None)
    store.commit()

    def publishing(count: int) -> float:
        began = time.process_time()
        store.start(None, durable=False)
        for number in range(count):
            assert store.publish(message(number)) is None
        store.commit()
        return time.process_time() - began

    first = publishing(5000)
    publishing(60_000)
    assert publishing(5000) < 20 * first, "counted for each, it would be a hundred times as much"
    store.close()
