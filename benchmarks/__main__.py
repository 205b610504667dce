"""The command: ``python -m benchmarks [publish-confirm|prefetch|memory] [options]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks import consume, memory, publish
from benchmarks.runner import REPEATS, Plan, Result, environment, header, row, write

BENCHMARKS: dict[str, Callable[[Plan], Iterator[Result]]] = {
    publish.NAME: publish.run,
    consume.NAME: consume.run,
    memory.NAME: memory.run,
}
MESSAGES, QUICK_MESSAGES = 10_000, 1_000


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Messages per second and processor time of the client, as medians.",
        epilog="Without --transport a private RabbitMQ is started. Processor time is that of this process, user and "
        "system; over memory:// it includes the broker.",
    )
    made.add_argument("benchmark", nargs="?", choices=tuple(BENCHMARKS), help="default: all")
    made.add_argument(
        "--transport", metavar="URL", help="measure on this broker, such as amqp://guest:guest@localhost/"
    )
    made.add_argument("--messages", type=_count, metavar="N", help=f"messages in a sample; default {MESSAGES}")
    made.add_argument("--quick", action="store_true", help="small samples: all within a minute")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    return made


def _count(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("at least 2")
    return number


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for."""
    given = parser().parse_args(arguments)
    names = [given.benchmark] if given.benchmark else list(BENCHMARKS)
    messages = given.messages or (QUICK_MESSAGES if given.quick else MESSAGES)
    results: list[Result] = []
    with ExitStack() as stack:
        url, broker = _broker(given.transport, names, stack)
        where = environment(broker)
        print(", ".join(f"{name} {value}" for name, value in where.items()))
        print(header(), flush=True)
        for name in names:
            for result in BENCHMARKS[name](Plan(url, messages, REPEATS)):
                results.append(result)
                print(row(result), flush=True)
    if given.json is not None:
        write(given.json, results, where)
    return 0


def _broker(given: str | None, names: list[str], stack: ExitStack) -> tuple[str, str]:
    """URL of the broker to measure on, and what to call it: never the URL, which may hold a password."""
    if given is not None:
        return given, given.partition(":")[0]
    if names == [memory.NAME]:
        return "memory://benchmarks", "memory"
    from eventbus_rabbitmq.local_broker import LocalBroker

    private = stack.enter_context(LocalBroker())
    return private.url, f"RabbitMQ {private.version} (private, on this machine)"


if __name__ == "__main__":
    sys.exit(main())
