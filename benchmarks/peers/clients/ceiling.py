"""The ceiling: a plain socket that encodes once and decodes nothing, as fast as the broker lets anyone be."""

from __future__ import annotations

import struct
import time

from benchmarks.peers.clients.shared import CONTENT_TYPE, SOURCE, Job, Marks, main
from benchmarks.peers.clients.wire import FRAME_MAX, READ, Refused, Wire, message, method, properties, short, why
from benchmarks.runner import Sample, Stopwatch

_ACK = struct.Struct(">BHIIQBB")
_ACK_ID = (60 << 16) + 80
_PARTS = 10
"""A write carries this part of the window, so that writing and confirming overlap."""


class Confirms:
    """How many have been confirmed."""

    def __init__(self) -> None:
        self.count = 0
        self._upto = 0
        self._beyond: set[int] = set()

    def take(self, buffer: bytearray) -> None:
        """Count the whole confirms in the buffer and cut them off; they all have the same size."""
        whole = len(buffer) - len(buffer) % _ACK.size
        with memoryview(buffer) as view, view[:whole] as confirms:
            for kind, _, _, id, tag, multiple, _ in _ACK.iter_unpack(confirms):
                if id != _ACK_ID:
                    raise Refused(why(kind, bytes(buffer[7:60])))
                if multiple:
                    self._upto = max(self._upto, tag)
                    if self._beyond:
                        self._beyond = {number for number in self._beyond if number > tag}
                else:
                    self._beyond.add(tag)
        del buffer[:whole]
        while self._upto + 1 in self._beyond:
            self._upto += 1
            self._beyond.remove(self._upto)
        self.count = self._upto + len(self._beyond)


class Publisher:
    """One message over and over on a connection with confirms."""

    def __init__(self, wire: Wire, job: Job) -> None:
        marks = Marks(job)
        id = marks.id(0)
        written = properties(CONTENT_TYPE, marks.headers(id), id, marks.timestamp, marks.type, SOURCE)
        self._one = message(job.exchange, job.key, written, job.body, wire.frame_max)
        self._wire = wire
        self._confirms = Confirms()
        self._sent = 0
        wire.ask(85, 10, b"\0", 11)

    def publish(self, messages: int, window: int) -> list[float]:
        """So many more, confirmed. Gives latencies for a window of one; in a wider one nothing follows a message."""
        chunk = max(1, min(window // _PARTS, FRAME_MAX // len(self._one)))
        many, end, latencies, now = self._one * chunk, self._sent + messages, [], time.perf_counter
        read, write, confirms = self._wire.read, self._wire.socket.sendall, self._confirms
        while confirms.count < end:
            began = now()
            while (count := min(chunk, end - self._sent)) and self._sent + count - confirms.count <= window:
                write(many if count == chunk else self._one * count)
                self._sent += count
            self._wire.buffer += read()
            confirms.take(self._wire.buffer)
            if window == 1:
                latencies.append(now() - began)
        return latencies


def publish(job: Job) -> Sample:
    """Pre-encoded frames, as many unconfirmed as the window holds."""
    with Wire(job.url) as wire:
        publisher = Publisher(wire, job)
        publisher.publish(1, 1)
        watch = Stopwatch()
        watch.start()
        latencies = publisher.publish(job.messages, job.window)
        return watch.stop(job.messages, latencies)


def fill(job: Job) -> None:
    """Put so many equal messages into the queue."""
    with Wire(job.url) as wire:
        Publisher(wire, job).publish(job.messages, job.window)


def consume(job: Job) -> Sample:
    """Count bytes: the messages in the queue are equal, so that their number is known from the size of the first."""
    with Wire(job.url) as wire:
        wire.ask(60, 10, struct.pack(">IHB", 0, job.prefetch, 0), 11)
        wire.ask(60, 20, b"\0\0" + short(job.queue) + short("c") + b"\0" + b"\0\0\0\0", 21)
        start = bytearray(wire.buffer)  # what has come behind the answer; from now on only its size counts
        wire.buffer.clear()
        watch, total, size, acked = Stopwatch(), len(start), _size_of_first(start), 0
        space, read, write = bytearray(READ), wire.socket.recv_into, wire.socket.sendall
        if start:
            watch.start()
        while acked < job.messages:
            if size and total // size > acked:
                acked = total // size
                write(method(60, 80, struct.pack(">QB", acked, 1)))
                continue
            count = read(space)
            if not count:
                raise Refused("the broker closed the connection")
            watch.start_once()
            total += count
            if not size:
                start += space[:count]
                size = _size_of_first(start)
        if total % size:
            raise Refused("other bytes came than those of whole messages")
        return watch.stop(job.messages)


def _size_of_first(read: bytearray) -> int:
    """Bytes of the first delivery with all its frames, or 0 if it is not complete."""
    at, left = 0, -1
    while left != 0:
        if len(read) < at + 7:
            return 0
        kind, _, length = struct.unpack_from(">BHI", read, at)
        if kind == 2:
            if len(read) < at + 19:
                return 0
            left = int(struct.unpack_from(">Q", read, at + 11)[0])
        elif kind == 3:
            left -= length
        elif bytes(read[at + 7 : at + 11]) != b"\x00\x3c\x00\x3c":
            raise Refused(why(kind, bytes(read[at + 7 :])))
        at += length + 8
    return at if len(read) >= at else 0


if __name__ == "__main__":
    main({"publish": publish, "publish-one": publish, "consume": consume})
