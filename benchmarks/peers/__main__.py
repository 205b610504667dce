"""The command ``python -m benchmarks.peers``: the comparison by itself."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.peers import CLIENTS, WORKS, Absent, Choice, run
from benchmarks.peers.rounds import versions
from benchmarks.runner import Amount, Plan, Result, Settings, environment, write

SECONDS, QUICK_SECONDS = 1.0, 0.2
ROUNDS, QUICK_ROUNDS = 5, 3


class Quiet:
    """Shows nothing while it measures."""

    @contextmanager
    def measuring(self, benchmark: str, client: str, settings: Settings) -> Iterator[None]:
        """One sample."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{benchmark} {client} round {settings['round']}", end="\r", file=sys.stderr, flush=True)
        yield


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="eventbus beside other clients")
    made.add_argument("--works", nargs="+", choices=tuple(WORKS), help="default: all; with --quick none of 64 KiB")
    made.add_argument("--clients", nargs="+", choices=tuple(CLIENTS), help="default: all; the ceiling is always there")
    made.add_argument("--transport", metavar="URL", help="a broker; default: a private one is started")
    made.add_argument("--queue", choices=("quorum", "classic"), default="quorum")
    made.add_argument("--rounds", type=int, help=f"default {ROUNDS}, with --quick {QUICK_ROUNDS}")
    made.add_argument("--seed", type=int, default=1, help="of the order in the rounds")
    made.add_argument("--quick", action="store_true", help="short samples")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    return made


def main(given: Sequence[str] | None = None) -> int:
    """Compare and print."""
    asked = parser().parse_args(given)
    choice = Choice(works=asked.works, clients=asked.clients, queue=asked.queue, seed=asked.seed)
    amount = Amount(seconds=QUICK_SECONDS if asked.quick else SECONDS)
    rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    results, began = [], time.perf_counter()
    with ExitStack() as stack:
        url, broker = asked.transport, "given"
        if url is None:
            from eventbus_rabbitmq.local_broker import LocalBroker

            private = stack.enter_context(LocalBroker())
            url, broker = private.url, f"RabbitMQ {private.version} (private, on this machine)"
        print(f"{rounds} rounds, order by seed {asked.seed}, {asked.queue} queues, {broker}")
        for found in run(Plan(url, amount, Quiet(), rounds, quick=asked.quick), choice):
            print(found if isinstance(found, Absent) else row(found), flush=True)
            if isinstance(found, Result):
                results.append(found)
    where = environment(broker) | versions(choice)
    print(", ".join(f"{name} {version}" for name, version in where.items()))
    print(f"{time.perf_counter() - began:.0f} s")
    if asked.json is not None:
        write(asked.json, results, where)
    return 0


def row(result: Result) -> str:
    """One line of the table."""
    part = "" if result.of_ceiling is None else f"{result.of_ceiling:7.1%} of ceiling"
    rate = f"{result.messages_per_second:9,.0f}/s {result.cpu_us_per_message:8.1f} us CPU {part:18}"
    size = result.body_bytes or 0
    bulk = f" {result.messages_per_second * size / 1e6:6.0f} MB/s" if size >= 65536 else ""
    late = "".join(f" {name} {result.latency_ms[name]:.2f} ms" for name in ("p50", "p99") if result.latency_ms)
    return f"{result.benchmark:18} {result.client:22} {rate}{bulk}{late}  [{result.messages} in a sample]"


if __name__ == "__main__":
    sys.exit(main())
