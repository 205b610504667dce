"""A TCP proxy between programs and broker that can do what networks do: cut, fall silent, crawl, refuse.

It runs on a thread of its own. What it has done is counted, so that a run can show that its fault really happened.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

CHUNK = 1 << 16
LINGER_NONE = struct.pack("ii", 1, 0)  # close sends RST


class Frames:
    """Where in AMQP's frames a byte stream stands: eight bytes of protocol header, then seven, a body and one each."""

    def __init__(self, *, header: int) -> None:
        self._left = header
        self._head = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what has passed."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            piece = data[at : at + 7 - len(self._head)]
            self._head += piece
            at += len(piece)
            if len(self._head) == 7:
                self._left = int.from_bytes(self._head[3:7], "big") + 1
                self._head.clear()

    def copy(self) -> Frames:
        """The same place, to look ahead from."""
        other = Frames(header=self._left)
        other._head += self._head
        return other

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._left or self._head)


class Pair:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: Any, server: Any) -> None:
        self.proxy = proxy
        self.client, self.server = client, server
        self.out = Frames(header=8)
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        loop = asyncio.get_running_loop()
        (client_in, client_out), (server_in, server_out) = self.client, self.server
        self.tasks = [
            loop.create_task(self._pump(client_in, server_out, "up")),
            loop.create_task(self._pump(server_in, client_out, "down")),
        ]

    async def _pump(self, source: Any, target: Any, way: str) -> None:
        proxy = self.proxy
        try:
            while data := await source.read(CHUNK):
                proxy.bytes[way] += len(data)
                while proxy.silent == "both" or proxy.silent == way:
                    proxy.counts["silenced"] += 1
                    await proxy.change.wait()
                data = await self._crawl(data, target, way)
                if way == "up" and proxy.cut_in_frame and len(data) > 1:
                    data = self._torn(data)
                elif way == "up":
                    self.out.feed(data)
                target.write(data)
                await target.drain()
                if way == "up" and proxy.cut_in_frame and self.out.inside:
                    proxy.cut_in_frame -= 1
                    proxy.counts["cut in frame"] += 1
                    self.end(reset=True)
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        self.end(reset=False)

    async def _crawl(self, data: bytes, target: Any, way: str) -> bytes:
        """Pass ``data`` at the rate of the moment; gives what is left when there is no limit any more."""
        while data and (rate := self.proxy.rate) is not None:
            piece, data = data[: max(1, int(rate / 10))], data[max(1, int(rate / 10)) :]
            self.proxy.counts["slowed"] += len(piece)
            await asyncio.sleep(len(piece) / rate)
            if way == "up":
                self.out.feed(piece)
            target.write(piece)
            await target.drain()
        return data

    def _torn(self, data: bytes) -> bytes:
        """A beginning of ``data`` that ends in the middle of a frame."""
        for length in random.sample(range(1, len(data)), min(64, len(data) - 1)):
            trial = self.out.copy()
            trial.feed(data[:length])
            if trial.inside:
                self.out = trial
                return data[:length]
        self.out.feed(data)
        return data

    def end(self, *, reset: bool) -> None:
        """Close both sockets; by RST if wished."""
        self.proxy.pairs.discard(self)
        for _, writer in (self.client, self.server):
            if reset:
                sock = writer.get_extra_info("socket")
                if sock is not None:
                    try:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
                    except OSError:
                        pass
                writer.transport.abort()
            elif not writer.is_closing():
                writer.close()


class Proxy:
    """Listens on :attr:`port` and passes everything to the broker, until it is told otherwise."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.counts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.pairs: set[Pair] = set()
        self.rate: float | None = None
        self.silent = ""
        self.refusing = False
        self.cut_in_frame = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._do(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.close()

    async def _listen(self) -> None:
        self.change = asyncio.Event()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["accepted"] += 1
        if self.refusing:
            self.counts["refused"] += 1
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            writer.transport.abort()
            return
        try:
            server = await asyncio.open_connection("127.0.0.1", self.target, limit=CHUNK)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair(self, (reader, writer), server)
        self.pairs.add(pair)
        pair.begin()

    def _do(self, function: Callable[[], Any]) -> Any:
        async def call() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    # -- what may be asked, from any thread -----------------------------------------------------------------

    def fall_silent(self, way: str = "both") -> None:
        """Pass nothing more (``up`` to the broker, ``down`` from it, or ``both``) and leave the sockets open."""
        self._do(lambda: setattr(self, "silent", way))

    def slow(self, rate: float) -> None:
        """Pass so many bytes a second, each way of each connection."""
        self._do(lambda: setattr(self, "rate", rate))

    def cut(self, connections: int) -> None:
        """Cut so many connections in the middle of a frame that a program sends."""
        self._do(lambda: setattr(self, "cut_in_frame", connections))

    def refuse(self) -> None:
        """Reset every connection, and every new one."""
        self._do(lambda: setattr(self, "refusing", True))
        self.reset()

    def reset(self) -> None:
        """Reset the connections that are open."""
        self._do(self._reset)

    def _reset(self) -> None:
        for pair in list(self.pairs):
            pair.end(reset=True)

    def leave_half_open(self) -> int:
        """End the broker's half of every connection; the programs are told nothing. Gives how many."""

        def leave() -> int:
            pairs = list(self.pairs)
            for pair in pairs:
                for task in pair.tasks:
                    task.cancel()
                pair.server[1].transport.abort()
            return len(pairs)

        found = int(self._do(leave))
        self.counts["half open"] += found
        return found

    def heal(self) -> None:
        """Pass everything again; connections that were silent are cut, as their bytes are lost."""

        def heal() -> None:
            if self.silent:
                for pair in list(self.pairs):
                    pair.end(reset=True)
            self.silent, self.rate, self.refusing, self.cut_in_frame = "", None, False, 0
            self.change.set()
            self.change = asyncio.Event()

        self._do(heal)

    def _close(self) -> None:
        self._server.close()
        self._reset()
