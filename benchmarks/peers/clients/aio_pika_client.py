"""aio-pika as it is: gather of publishes that wait for their confirms, a consumer callback, its RPC pattern."""

from __future__ import annotations

import asyncio
from typing import Any

import aio_pika
from aio_pika.patterns import RPC

from benchmarks.peers.clients.shared import CONTENT_TYPE, SOURCE, Job, Marks, main_async, spread
from benchmarks.runner import Sample, Stopwatch


async def publish(job: Job) -> Sample:
    """As many at once as the window holds."""
    async with await aio_pika.connect(job.url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange, marks, watch = await channel.get_exchange(job.exchange, ensure=False), Marks(job), Stopwatch()

        async def one(number: int) -> None:
            id = marks.id(number)
            message = aio_pika.Message(
                job.body,
                content_type=CONTENT_TYPE,
                headers=marks.headers(id),
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                message_id=id,
                timestamp=marks.timestamp,
                type=marks.type,
                app_id=SOURCE,
            )
            await exchange.publish(message, job.key, mandatory=True)

        await one(0)
        watch.start()
        latencies = await spread(job.messages, job.window, one)
        return watch.stop(job.messages, latencies if job.window == 1 else ())


async def consume(job: Job) -> Sample:
    """An ack for each message."""
    watch, left, done = Stopwatch(), job.messages, asyncio.Event()

    async def handle(message: Any) -> None:
        nonlocal left
        watch.start_once()
        await message.ack()
        left -= 1
        if left == 0:
            done.set()

    async with await aio_pika.connect(job.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=job.prefetch)
        queue = await channel.get_queue(job.queue, ensure=False)
        await queue.consume(handle)
        await done.wait()
        return watch.stop(job.messages)


async def rpc(job: Job) -> Sample:
    """The RPC pattern with its own serializer, a connection for each side."""
    async with await aio_pika.connect(job.url) as here, await aio_pika.connect(job.url) as there:
        serving, asking = await there.channel(), await here.channel()
        await serving.set_qos(prefetch_count=job.prefetch)
        server, client = await RPC.create(serving), await RPC.create(asking)

        async def answer(*, number: int) -> dict[str, int]:
            return {"number": number}

        name = f"{job.queue}.rpc"
        await server.register(name, answer, auto_delete=True)
        await client.call(name, {"number": -1})
        watch = Stopwatch()
        watch.start()
        latencies = await spread(job.messages, job.window, lambda number: client.call(name, {"number": number}))
        return watch.stop(job.messages, latencies)


if __name__ == "__main__":
    main_async({"publish": publish, "publish-one": publish, "consume": consume, "rpc": rpc})
