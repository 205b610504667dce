"""pika's BlockingConnection: with confirms it publishes one message at a time, whatever the window."""

from __future__ import annotations

import time
from typing import Any

import pika

from benchmarks.peers.clients.shared import CONTENT_TYPE, PERSISTENT, SOURCE, Job, Marks, main
from benchmarks.runner import Sample, Stopwatch


def publish(job: Job) -> Sample:
    """One after the other: every ``basic_publish`` returns with the confirm."""
    connection = pika.BlockingConnection(pika.URLParameters(job.url))
    channel, marks, latencies, watch = connection.channel(), Marks(job), [0.0] * job.messages, Stopwatch()
    channel.confirm_delivery()
    watch.start()
    for number in range(job.messages):
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
        latencies[number] = time.perf_counter() - began
    sample = watch.stop(job.messages, latencies if job.window == 1 else ())
    connection.close()
    return sample


def consume(job: Job) -> Sample:
    """An ack for each message."""
    connection = pika.BlockingConnection(pika.URLParameters(job.url))
    channel, watch, left = connection.channel(), Stopwatch(), job.messages

    def message(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        nonlocal left
        watch.start_once()
        channel.basic_ack(method.delivery_tag)
        left -= 1
        if left == 0:
            channel.stop_consuming()

    channel.basic_qos(prefetch_count=job.prefetch)
    channel.basic_consume(job.queue, message)
    channel.start_consuming()
    sample = watch.stop(job.messages)
    connection.close()
    return sample


if __name__ == "__main__":
    main({"publish": publish, "publish-one": publish, "consume": consume})
