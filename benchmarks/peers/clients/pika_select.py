"""pika's SelectConnection: everything in callbacks on its loop, with asynchronous confirms."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pika

from benchmarks.peers.clients.shared import CONTENT_TYPE, PERSISTENT, SOURCE, Job, Marks, main
from benchmarks.runner import Sample, Stopwatch


def in_channel(job: Job, work: Callable[[Any], None]) -> None:
    """Run the loop with an open channel until the work closes the connection."""
    lost: list[Any] = []

    def closed(connection: Any, reason: Any) -> None:
        if not isinstance(reason, pika.exceptions.ConnectionClosedByClient):
            lost.append(reason)
        connection.ioloop.stop()

    connection = pika.SelectConnection(
        pika.URLParameters(job.url),
        on_open_callback=lambda connection: connection.channel(on_open_callback=work),
        on_open_error_callback=closed,
        on_close_callback=closed,
    )
    connection.ioloop.start()
    if lost:
        raise ConnectionError(str(lost[0]))


class Publishing:
    """Publishes as the window allows: a confirm makes room for the next messages."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.watch = Stopwatch()
        self.sample: Sample | None = None
        self.latencies: list[float] = []
        self._marks = Marks(job)
        self._sent = self._confirmed = 0
        self._open: dict[int, float] = {}

    def __call__(self, channel: Any) -> None:
        """Begin."""
        self._channel = channel
        channel.confirm_delivery(self._outcome, callback=lambda _: self._begin())

    def _begin(self) -> None:
        self.watch.start()
        self._go_on()

    def _go_on(self) -> None:
        marks, open = self._marks, self._open
        while self._sent < self.job.messages and len(open) < self.job.window:
            self._sent += 1
            open[self._sent] = time.perf_counter()
            id = marks.id(self._sent)
            properties = pika.BasicProperties(
                content_type=CONTENT_TYPE,
                headers=marks.headers(id),
                delivery_mode=PERSISTENT,
                message_id=id,
                timestamp=marks.timestamp,
                type=marks.type,
                app_id=SOURCE,
            )
            self._channel.basic_publish(self.job.exchange, self.job.key, self.job.body, properties, mandatory=True)

    def _outcome(self, frame: Any) -> None:
        if not isinstance(frame.method, pika.spec.Basic.Ack):
            raise ConnectionError("a message was refused")
        tag, now = frame.method.delivery_tag, time.perf_counter()
        for number in range(self._confirmed + 1, tag + 1) if frame.method.multiple else (tag,):
            if (began := self._open.pop(number, None)) is not None and self.job.window == 1:
                self.latencies.append(now - began)
        if frame.method.multiple:
            self._confirmed = tag
        if self._sent < self.job.messages:
            self._go_on()
        elif not self._open:
            self.sample = self.watch.stop(self.job.messages, self.latencies)
            self._channel.connection.close()


def publish(job: Job) -> Sample:
    """With one message or many unconfirmed."""
    publishing = Publishing(job)
    in_channel(job, publishing)
    assert publishing.sample is not None
    return publishing.sample


def consume(job: Job) -> Sample:
    """An ack for each message."""
    watch, left, samples = Stopwatch(), job.messages, []

    def message(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        nonlocal left
        watch.start_once()
        channel.basic_ack(method.delivery_tag)
        left -= 1
        if left == 0:
            samples.append(watch.stop(job.messages))
            channel.connection.close()

    def begin(channel: Any) -> None:
        channel.basic_qos(prefetch_count=job.prefetch, callback=lambda _: channel.basic_consume(job.queue, message))

    in_channel(job, begin)
    return samples[0]


if __name__ == "__main__":
    main({"publish": publish, "publish-one": publish, "consume": consume})
