"""Records what a real RabbitMQ sends: ``python -m tests.rabbitmq.corpus.record``. Writes the ``.bin`` files beside it.

A proxy stands between pika and a private broker and keeps the broker's bytes. What is on channel 1 is what a consumer's
channel sees, on channel 2 a publisher's; channel 0 is the connection. Frames are small (4 KiB), so that bodies have
several.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pika
from eventbus_rabbitmq.local_broker import LocalBroker
from pika.exceptions import ChannelClosedByBroker, ConnectionClosed

HERE = Path(__file__).parent
HEADERS: dict[str, Any] = {
    "text": "ä",
    "number": 2**40,
    "small": 7,
    "yes": True,
    "nothing": None,
    "list": [1, "two", {"three": 3}],
    "table": {"deep": {"deeper": [b"raw"]}},
}


class Tap:
    """A TCP proxy that keeps what the broker says."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.heard = bytearray()
        self._loop = asyncio.new_event_loop()
        self.port = 0
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()

    def _run(self, ready: threading.Event) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            async with server:
                await server.serve_forever()

        try:
            self._loop.run_until_complete(serve())
        except asyncio.CancelledError:
            pass

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._pass(reader, broker_writer, None), self._pass(broker_reader, writer, self.heard))

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None) -> None:
        while data := await reader.read(65536):
            if kept is not None:
                kept += data
            writer.write(data)
        writer.close()


def connect(port: int) -> Any:
    """A connection with small frames."""
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, frame_max=4096, heartbeat=1))


def consumer_side(port: int) -> None:
    """Deliveries of many kinds, heartbeats, and the end of the queue under the consumer."""
    connection = connect(port)
    channel = connection.channel(1)
    channel.queue_declare("q", arguments={"x-dead-letter-exchange": "amq.fanout"})
    channel.queue_declare("dead")
    channel.queue_bind("dead", "amq.fanout")
    for body in (b"", b"one", b"x" * 5_000, bytes(range(256))):
        channel.basic_publish("", "q", body, pika.BasicProperties("text/plain", headers=HEADERS, delivery_mode=2))
    channel.basic_publish("", "q", b"all", pika.BasicProperties(
        "application/json", "identity", HEADERS, 2, 3, "correlation", "reply-to", "60000", "message-id", 1_700_000_000,
        "type", "guest", "app", "cluster",
    ))  # fmt: skip
    seen: list[int] = []

    def delivered(_: Any, method: Any, properties: Any, body: bytes) -> None:
        seen.append(method.delivery_tag)
        if len(seen) == 2:
            channel.basic_reject(method.delivery_tag, requeue=True)
        elif len(seen) == 3:
            channel.basic_reject(method.delivery_tag, requeue=False)  # arrives in "dead", with x-death

    channel.basic_consume("q", delivered)
    channel.basic_consume("dead", delivered)
    until = time.monotonic() + 3  # for heartbeats
    while time.monotonic() < until:
        connection.process_data_events(0.1)
    channel.queue_delete("q")
    connection.process_data_events(0.5)
    connection.close()


def publisher_side(port: int, broker: LocalBroker) -> None:
    """Confirms one by one and joined, returns, a nack, a broker in alarm, and a closed channel."""
    connection = connect(port)
    connection.channel(1)
    channel = connection.channel(2)
    channel.queue_declare("small", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    # Not through BlockingChannel, which waits for each confirm: joined confirms come of many on their way.
    raw = channel._impl
    raw.confirm_delivery(lambda frame: None)
    connection.process_data_events(0.3)
    properties = pika.BasicProperties(message_id="an-id", headers=HEADERS)
    for topic, count in (("small", 1), ("small", 1), ("nowhere", 2), ("#", 50)):
        for _ in range(count):
            raw.basic_publish("amq.topic" if topic == "#" else "", topic, b"y" * 5000, properties, topic != "#")
        connection.process_data_events(0.5)
    broker.ctl("set_vm_memory_high_watermark", "0.0000001")
    raw.basic_publish("", "small", b"blocked", properties)
    connection.process_data_events(2)
    broker.ctl("set_vm_memory_high_watermark", "0.4")
    connection.process_data_events(2)
    try:
        raw.basic_publish("no-such-exchange", "t", b"", properties)
        connection.process_data_events(0.5)
    except ChannelClosedByBroker:
        pass
    broker.ctl("close_all_connections", "the end")
    try:
        connection.process_data_events(1)
    except ConnectionClosed:
        pass


def main() -> None:
    """Record both sides."""
    with LocalBroker() as broker:
        for name, play in (("consumer", consumer_side), ("publisher", lambda port: publisher_side(port, broker))):
            tap = Tap(broker.port)
            play(tap.port)
            (HERE / f"{name}.bin").write_bytes(tap.heard)
            print(f"{name}.bin: {len(tap.heard)} bytes")


if __name__ == "__main__":
    main()
