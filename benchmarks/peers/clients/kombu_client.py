"""kombu: with ``confirm_publish`` it publishes one message at a time, whatever the window."""

from __future__ import annotations

import time
from typing import Any

import kombu

from benchmarks.peers.clients.shared import CONTENT_TYPE, PATIENCE, PERSISTENT, SOURCE, Job, Marks, main
from benchmarks.runner import Sample, Stopwatch


def publish(job: Job) -> Sample:
    """One after the other; the body is encoded already."""
    with kombu.Connection(job.url, transport_options={"confirm_publish": True}) as connection:
        producer, marks, latencies, watch = connection.Producer(), Marks(job), [0.0] * job.messages, Stopwatch()
        producer.channel  # noqa: B018 - opens it
        watch.start()
        for number in range(job.messages):
            began = time.perf_counter()
            id = marks.id(number)
            producer.publish(
                job.body,
                exchange=job.exchange,
                routing_key=job.key,
                content_type=CONTENT_TYPE,
                content_encoding="utf-8",
                headers=marks.headers(id),
                delivery_mode=PERSISTENT,
                mandatory=True,
                message_id=id,
                timestamp=marks.timestamp,
                type=marks.type,
                app_id=SOURCE,
            )
            latencies[number] = time.perf_counter() - began
        return watch.stop(job.messages, latencies if job.window == 1 else ())


def consume(job: Job) -> Sample:
    """An ack for each message; ``on_message`` leaves the body as it is, as the raw clients do."""
    watch, left = Stopwatch(), job.messages

    def handle(message: Any) -> None:
        nonlocal left
        watch.start_once()
        message.ack()
        left -= 1

    with kombu.Connection(job.url) as connection:
        channel = connection.channel()
        queue = kombu.Queue(job.queue, no_declare=True)
        with kombu.Consumer(channel, [queue], on_message=handle, auto_declare=False, prefetch_count=job.prefetch):
            while left:
                connection.drain_events(timeout=PATIENCE)
            return watch.stop(job.messages)


if __name__ == "__main__":
    main({"publish": publish, "publish-one": publish, "consume": consume})
