"""Many threads at one in-memory broker."""

from __future__ import annotations

import threading
from collections import Counter

from eventbus_memory import MemoryTransport

from eventbus.transport import Ack, ConsumerSpec, Incoming, LinkSettings, Message, Queue, SyncLink

PUBLISHERS, CONSUMERS, EACH = 8, 4, 500


class Counting:
    """Settles at once, and notes what came, and whether two calls ever overlapped."""

    def __init__(self, link: SyncLink, complete: threading.Semaphore) -> None:
        self._link = link
        self._complete = complete
        self._inside = threading.Lock()
        self.ids: list[str] = []
        self.overlapped = False

    def delivered(self, incoming: Incoming, /) -> None:
        if not self._inside.acquire(blocking=False):
            self.overlapped = True
            return
        self.ids.append(incoming.message.id)
        self._link.settle(incoming, Ack())
        self._inside.release()
        self._complete.release()

    def started(self, queue: str, /) -> None:
        """Nothing to do."""

    def stopped(self, error: Exception | None, /) -> None:
        """Nothing to do."""


def test_every_message_comes_exactly_once_and_each_publishers_in_order() -> None:
    transport = MemoryTransport()
    link = transport.sync_link(LinkSettings(service="s"), lambda status: None)
    link.open()
    complete = threading.Semaphore(0)
    listeners = [Counting(link, complete) for _ in range(CONSUMERS)]
    for number, listener in enumerate(listeners):
        link.consume(ConsumerSpec(name=f"c{number}", queue=Queue(name="q"), prefetch=number + 1), listener)
    outcomes: list[object] = []

    def publish(publisher: int) -> None:
        for number in range(EACH):
            message = Message(exchange="", topic="q", body=b"", id=f"{publisher}-{number}", type="t")
            link.publish(message, deadline=0.0, done=outcomes.append)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(PUBLISHERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    for _ in range(PUBLISHERS * EACH):
        assert complete.acquire(timeout=30.0)
    link.close(1.0)
    expected = {f"{publisher}-{number}" for publisher in range(PUBLISHERS) for number in range(EACH)}
    assert Counter(id for listener in listeners for id in listener.ids) == Counter(expected)
    assert outcomes == [None] * (PUBLISHERS * EACH)
    assert not any(listener.overlapped for listener in listeners)
    for listener in listeners:
        for publisher in range(PUBLISHERS):
            numbers = [int(id.split("-")[1]) for id in listener.ids if id.startswith(f"{publisher}-")]
            assert numbers == sorted(numbers)
