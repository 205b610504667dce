"""A million messages wait: what is done with one of them takes as many steps as if there were a thousand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from eventbus_sqlite._attributes import encode
from eventbus_sqlite._options import Options
from eventbus_sqlite._store import Store

from eventbus._topology import Queue
from eventbus.transport import Incoming, Message, Requeue

MESSAGE = Message(exchange="", topic="jobs", id="1", type="job", body=b"{}")
FEW, MANY = 1_000, 1_000_000

FILL = """
WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?)
INSERT INTO {table} SELECT {row} FROM counted
"""


def filled(path: Path, messages: int) -> Store:
    """A queue ``jobs`` with so many messages, and a tenth as many that wait for their time."""
    store = Store(path, Options())
    run = store.connection.execute
    store.start(None, durable=False)
    queue = store.declare(Queue(name="jobs"), None)
    attributes = encode(MESSAGE)
    run(FILL.format(table="messages", row="n, ?2, x'7b7d'"), (messages, attributes))
    run(FILL.format(table="ready", row="?2, 0, n, NULL, 0"), (messages - messages // 10, queue.id))
    run(
        FILL.format(table="scheduled", row="4e9 + n, ?2 + n, ?3"),
        (messages // 10, messages - messages // 10, queue.id),
    )
    store.commit()
    return store


def steps(store: Store, action: Callable[[], object]) -> int:
    """How many instructions SQLite carries out for it, in a transaction of its own."""
    counter = itertools.count()
    store.connection.set_progress_handler(lambda: next(counter) and 0, 1)
    try:
        store.start(None, durable=False)
        action()
        store.commit()
    finally:
        store.connection.set_progress_handler(None, 0)
    return next(counter)


def work(store: Store) -> dict[str, int]:
    """What each thing costs that is done all the time."""
    queue = store.queues["jobs"]
    found = {
        "claim": steps(store, lambda: store.claim(queue, 1, 1, 50)),
        "share": steps(store, lambda: store.share(queue, 50)),
        "look": steps(store, lambda: store.anything(queue.id)),
        "publish": steps(store, lambda: store.publish(MESSAGE)),
        "time": steps(store, store.pass_time),
        "next time": steps(store, store.next_time),
    }
    first = store.read(1, 50)[0][0]
    found["read"] = steps(store, lambda: store.read(first, 50))
    found["ack"] = steps(store, lambda: store.ack(list(range(first, first + 20))))
    found["requeue"] = steps(store, lambda: store.settle(first + 20, _incoming(), Requeue()))
    found["take back"] = steps(store, lambda: store.take_back("session", 1))
    return found


def _incoming() -> Incoming:
    return Incoming(
        message=MESSAGE, consumer="c", queue="jobs", attempt=1, redelivered=False
    )  # fmt: skip


@pytest.mark.timeout(120)
def test_a_long_queue_costs_no_more_than_a_short_one(tmp_path: Path) -> None:
    costs = {}
    for messages in (FEW, MANY):
        with closing(filled(tmp_path / f"{messages}.db", messages)) as store:
            costs[messages] = work(store)
    few, many = costs[FEW], costs[MANY]
    assert {what: (few[what], many[what]) for what in few if many[what] > 1.2 * few[what] + 20} == {}, (few, many)
    assert min(few.values()) > 3
