"""Feeds the AMQP reader with hostile bytes: ``python -m tests.fuzz.fuzz_lane --seconds 60``.

Whatever a broker sends, the reader (lane, content, headers, confirms) may do two things: take it, or raise
``LaneError``, which ends that connection. It must not raise anything else, hang, tell of more than came in, or keep
more than the limits.

Inputs come of recordings of a real broker, changed at random, with a seed that is printed. With atheris installed
(``pip install atheris``) and ``--engine atheris``, they are chosen by the code that they reach.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventbus_rabbitmq._wire.lane import LaneError

from tests.rabbitmq.receiving import CORPUS, MAX_BODY, PUBLISHED, Receiver

FRAME_MAX = 4096
MOST_INPUT = 1 << 16
SLOW = 1.0
HEAD = struct.Struct(">BHI")
HEARTBEAT = 8

NUMBERS = (0, 1, 2, 7, 8, 9, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63, 2**64 - 1)


class Broken(AssertionError):
    """The reader did what it must not."""


def one_input(data: bytes) -> str:
    """Feed one input, in pieces that it names itself; gives how it ended. :raises Broken: as it must not."""
    if not data:
        return "empty"
    size = (1, 3, 64, 4096, len(data))[data[0] % 5]
    stream, receiver, ended = data[1:], Receiver(FRAME_MAX), "taken"
    began = time.perf_counter()
    try:
        for at in range(0, len(stream), size):
            receiver.feed(stream[at : at + size])
            if receiver.held > FRAME_MAX + MAX_BODY + FRAME_MAX:
                raise Broken(f"{receiver.held} bytes are held")
    except LaneError:
        ended = "refused"
    took = time.perf_counter() - began
    if took > SLOW:
        raise Broken(f"{len(stream)} bytes took {took:.1f} s")
    # The library also gets a heartbeat where only our traffic flows: at most one for each piece.
    if len(receiver.forwarded) > len(stream) + HEARTBEAT * (len(stream) // size + 1):
        raise Broken("more was forwarded than came in")
    # A told event stands for a frame at least; the outcomes are bounded by what was published.
    if len(receiver.told) > len(stream) // 8 + 1 + PUBLISHED:
        raise Broken("more was told than came in")
    return ended


# -- inputs ---------------------------------------------------------------------------------------------


def frames_of(stream: bytes) -> list[bytes]:
    """The frames of a recording."""
    found, at = [], 0
    while at < len(stream):
        end = at + HEAD.unpack_from(stream, at)[2] + 8
        found.append(stream[at:end])
        at = end
    return found


FRAMES = [frame for stream in CORPUS.values() for frame in frames_of(stream)]


def made_up(chance: random.Random) -> bytes:
    """An input: frames of the recordings in some order, some of them changed."""
    frames = [changed(chance, chance.choice(FRAMES)) for _ in range(chance.randint(1, 12))]
    stream = b"".join(frames)
    if chance.random() < 0.1:
        stream = changed_anywhere(chance, stream)
    return bytes((chance.randrange(256),)) + stream[:MOST_INPUT]


def changed(chance: random.Random, frame: bytes) -> bytes:
    """The frame as it is, or with another channel, kind, length or content."""
    what = chance.random()
    if what < 0.4:
        return frame
    kind, channel, _ = HEAD.unpack_from(frame)
    payload = frame[7:-1]
    if what < 0.5:
        channel = chance.choice((0, 1, 2, 3, 65535))
    elif what < 0.55:
        kind = chance.randrange(10)
    elif what < 0.6:
        return HEAD.pack(kind, channel, chance.choice(NUMBERS) & 0xFFFFFFFF) + payload + b"\xce"
    elif what < 0.65:
        return frame[:-1] + bytes((chance.randrange(256),))
    else:
        payload = changed_anywhere(chance, payload)
    return HEAD.pack(kind, channel, len(payload)) + payload + b"\xce"


def changed_anywhere(chance: random.Random, data: bytes) -> bytes:
    """A few bytes replaced, inserted, removed, repeated or turned into an extreme number."""
    changing = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changing) + 1)
        match chance.randrange(6):
            case 0 if changing:
                changing[at % len(changing)] = chance.randrange(256)
            case 1:
                changing[at:at] = chance.randbytes(chance.randint(1, 8))
            case 2:
                del changing[at : at + chance.randint(1, 16)]
            case 3:
                changing[at:at] = changing[at : at + chance.randint(1, 64)]
            case 4:
                number = chance.choice(NUMBERS).to_bytes(8, "big")
                width = chance.choice((1, 2, 4, 8))
                changing[at : at + width] = number[-width:]
            case _:
                del changing[at:]
    return bytes(changing)


# -- running --------------------------------------------------------------------------------------------


def run(seed: int, more: Callable[[int], bool]) -> Counter[str]:
    """Feed inputs of this seed as long as ``more(count)``; gives how they ended."""
    chance, ended = random.Random(seed), Counter[str]()
    count = 0
    while more(count):
        data = made_up(chance)
        try:
            ended[one_input(data)] += 1
        except BaseException:
            print(f"seed {seed}, input {count}: {data.hex()}", file=sys.stderr)
            raise
        count += 1
    return ended


def with_atheris(seconds: float, seed: int) -> None:
    """Let atheris choose the inputs. It ends the process."""
    import tempfile

    import atheris  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder:
        for number, frame in enumerate(FRAMES):
            (Path(folder) / f"{number}").write_bytes(b"\x04" + frame)
        for name, stream in CORPUS.items():
            (Path(folder) / name).write_bytes(b"\x03" + stream)

        def target(data: bytes) -> None:
            one_input(data)

        atheris.instrument_all()
        options = [f"-max_total_time={int(seconds)}", f"-seed={seed}", f"-max_len={MOST_INPUT}", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, folder], target)
        atheris.Fuzz()


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.fuzz_lane", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--engine", choices=("random", "atheris"), default="random")
    given: Any = parser.parse_args(arguments)
    print(f"seed {given.seed}, {len(FRAMES)} frames of {len(CORPUS)} recordings", flush=True)
    if given.engine == "atheris":
        with_atheris(given.seconds, given.seed)
        return 0
    until = time.monotonic() + given.seconds
    ended = run(given.seed, lambda count: time.monotonic() < until)
    total = ended.total()
    print(f"{total:,} inputs in {given.seconds:g} s ({total / given.seconds:,.0f}/s), all as they must:")
    for how, count in ended.most_common():
        print(f"  {how}: {count:,} ({count / total:.0%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
