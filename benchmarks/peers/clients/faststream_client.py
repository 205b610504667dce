"""FastStream: gather of publishes, a subscriber that takes the decoded body, its requests over direct reply-to."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

from benchmarks.peers.clients.shared import CONTENT_TYPE, PATIENCE, SOURCE, Job, Marks, main_async, spread
from benchmarks.runner import Sample, Stopwatch


def topic(name: str) -> RabbitExchange:
    """The exchange, which is there."""
    return RabbitExchange(name, type=ExchangeType.TOPIC, durable=True, declare=False)


async def publish(job: Job) -> Sample:
    """As many at once as the window holds; bytes are sent as they are."""
    channel = Channel(publisher_confirms=True, on_return_raises=True)
    async with RabbitBroker(job.url, logger=None, default_channel=channel, app_id=SOURCE) as broker:
        exchange, marks, watch = topic(job.exchange), Marks(job), Stopwatch()

        async def one(number: int) -> None:
            id = marks.id(number)
            await broker.publish(
                job.body,
                exchange=exchange,
                routing_key=job.key,
                persist=True,
                mandatory=True,
                content_type=CONTENT_TYPE,
                headers=marks.headers(id),
                message_id=id,
                timestamp=marks.timestamp,
                message_type=marks.type,
            )

        await one(0)
        watch.start()
        latencies = await spread(job.messages, job.window, one)
        return watch.stop(job.messages, latencies if job.window == 1 else ())


async def consume(job: Job) -> Sample:
    """Its subscriber acks when the handler returns."""
    watch, left, done = Stopwatch(), job.messages, asyncio.Event()
    broker = RabbitBroker(job.url, logger=None, default_channel=Channel(prefetch_count=job.prefetch))

    async def handle(body: dict[str, Any]) -> None:
        nonlocal left
        watch.start_once()
        left -= 1
        if left == 0:
            done.set()

    broker.subscriber(RabbitQueue(job.queue, declare=False))(handle)
    async with broker:
        await broker.start()
        await done.wait()
        return watch.stop(job.messages)


async def rpc(job: Job) -> Sample:
    """A broker for each side."""
    serving = RabbitBroker(job.url, logger=None, default_channel=Channel(prefetch_count=job.prefetch))

    async def answer(body: dict[str, Any]) -> dict[str, Any]:
        return {"number": body["number"]}

    serving.subscriber(RabbitQueue(job.queue, declare=False))(answer)
    async with serving, RabbitBroker(job.url, logger=None) as asking:
        await serving.start()
        exchange, watch = topic(job.exchange), Stopwatch()

        async def one(number: int) -> None:
            reply = await asking.request({"number": number}, exchange=exchange, routing_key=job.key, timeout=PATIENCE)
            json.loads(reply.body)

        await one(-1)
        watch.start()
        latencies = await spread(job.messages, job.window, one)
        return watch.stop(job.messages, latencies)


if __name__ == "__main__":
    main_async({"publish": publish, "publish-one": publish, "consume": consume, "rpc": rpc})
