"""The thread-safe connection of pika's pre-releases: calls from here, its loop in a thread, callbacks in another."""

from __future__ import annotations

import threading
import time
from typing import Any

import pika
from pika.adapters.thread_safe_connection import Connection

from benchmarks.peers.clients.shared import CONTENT_TYPE, PATIENCE, PERSISTENT, SOURCE, Job, Marks, main
from benchmarks.runner import Sample, Stopwatch


class Confirms:
    """Places of the window, given back by confirms in the channel's worker thread."""

    def __init__(self, window: int) -> None:
        self.places = threading.Semaphore(window)
        self.refused = 0
        self._upto = 0
        self._beyond: set[int] = set()

    def __call__(self, frame: Any) -> None:
        """One confirm, of one message or of many."""
        if not isinstance(frame.method, pika.spec.Basic.Ack):
            self.refused += 1
        tag = frame.method.delivery_tag
        if not frame.method.multiple:
            self._beyond.add(tag)
            self.places.release()
            return
        early = {number for number in self._beyond if number <= tag}
        self.places.release(max(1, tag - self._upto - len(early)))
        self._beyond -= early
        self._upto = tag


def publish(job: Job) -> Sample:
    """From one thread."""
    with Connection(pika.URLParameters(job.url)) as connection:
        channel, marks, confirms, watch = connection.channel(), Marks(job), Confirms(job.window), Stopwatch()
        latencies = []
        channel.confirm_delivery(confirms)
        watch.start()
        for number in range(job.messages):
            _take(confirms)
            began = time.perf_counter()
            id = marks.id(number)
            properties = pika.BasicProperties(
                content_type=CONTENT_TYPE,
                headers=marks.headers(id),
                delivery_mode=PERSISTENT,
                message_id=id,
                timestamp=marks.timestamp,
                type=marks.type,
                app_id=SOURCE,
            )
            channel.basic_publish(job.exchange, job.key, job.body, properties, mandatory=True)
            if job.window == 1:
                _take(confirms)
                latencies.append(time.perf_counter() - began)
                confirms.places.release()
        for _ in range(job.window):
            _take(confirms)
        return watch.stop(job.messages, latencies)


def _take(confirms: Confirms) -> None:
    if not confirms.places.acquire(timeout=PATIENCE) or confirms.refused:
        raise TimeoutError("a message was refused or not confirmed")


def consume(job: Job) -> Sample:
    """An ack for each message, from the thread that handles it."""
    watch, left, done = Stopwatch(), job.messages, threading.Event()

    def message(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        nonlocal left
        watch.start_once()
        channel.basic_ack(method.delivery_tag)
        left -= 1
        if left == 0:
            connection.add_callback_threadsafe(done.set)  # behind the last ack

    with Connection(pika.URLParameters(job.url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=job.prefetch)
        channel.basic_consume(job.queue, message)
        if not done.wait(PATIENCE):
            raise TimeoutError(f"{left} messages did not come")
        return watch.stop(job.messages)


if __name__ == "__main__":
    main({"publish": publish, "publish-one": publish, "consume": consume})
