"""The command: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from benchmarks import fanout, footprint, latency, memory, peers, prefetch, publish, rpc, sqlite
from benchmarks.broker import Target, target
from benchmarks.runner import REPEATS, Amount, Plan, Result, environment, read, write
from benchmarks.screen import Screen
from benchmarks.tune import command as tune_command
from eventbus import EventBusError

# In the order of a whole run: what is asked first is answered first.
OWN: tuple[ModuleType, ...] = (publish, prefetch, rpc, latency, fanout, memory)
SINGLE: dict[str, ModuleType] = {module.NAME: module for module in (*OWN, footprint)}
NEED_NO_BROKER = {memory.NAME, sqlite.NAME}

MESSAGES, QUICK_MESSAGES = 10_000, 1_500
PEER_SECONDS, PEER_QUICK_SECONDS = 1.0, 0.2
REPORT = Path("benchmark-report")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure eventbus: messages a second, and processor time of the client, as medians.",
        epilog="Without --transport a private RabbitMQ is started. Processor time is that of the client's process, "
        "user and system; over memory:// it includes the broker.",
    )
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    every = commands.add_parser(
        "all", help="everything below but footprint and sqlite, with a report", description=made.description
    )
    _common(every)
    _peers(every)
    every.add_argument("--report", type=Path, metavar="FOLDER", default=REPORT, help=f"default: {REPORT}")
    every.add_argument("--without-peers", action="store_true", help="eventbus alone")
    for name, module in SINGLE.items():
        _common(commands.add_parser(name, help=module.ABOUT, description=module.__doc__))
    beside = commands.add_parser(peers.NAME, help=peers.ABOUT, description=peers.__doc__)
    _common(beside)
    _peers(beside)
    files = commands.add_parser(sqlite.NAME, help=sqlite.ABOUT, description=sqlite.__doc__)
    files.set_defaults(transport=None)
    _amounts(files)
    _files(files)
    tuned = commands.add_parser("tune", help="which window, prefetch and concurrency to set on your broker")
    _common(tuned)
    tune_command.add_options(tuned)
    drawn = commands.add_parser("report", help="an HTML page and charts from a file that --json wrote")
    drawn.add_argument("file", type=Path, metavar="FILE")
    drawn.add_argument("--to", type=Path, metavar="FOLDER", default=REPORT, help=f"default: {REPORT}")
    return made


def _common(made: argparse.ArgumentParser) -> None:
    made.add_argument("--transport", metavar="URL", help="a broker, such as amqp://guest:guest@localhost/")
    _amounts(made)


def _amounts(made: argparse.ArgumentParser) -> None:
    amount = made.add_mutually_exclusive_group()
    amount.add_argument("--messages", type=_count, metavar="N", help=f"in a sample; default {MESSAGES:,}")
    amount.add_argument("--seconds", type=_seconds, metavar="S", help="about how long a sample lasts, instead")
    made.add_argument("--repeats", type=_count_of_repeats, default=REPEATS, help=f"samples; default {REPEATS}")
    made.add_argument("--quick", action="store_true", help="fewer settings and small samples")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")


def _peers(made: argparse.ArgumentParser) -> None:
    made.add_argument("--works", nargs="+", choices=tuple(peers.WORKS), metavar="WORK", help=", ".join(peers.WORKS))
    made.add_argument(
        "--clients", nargs="+", choices=tuple(peers.CLIENTS), metavar="CLIENT", help=", ".join(peers.CLIENTS)
    )
    made.add_argument("--queue", choices=("quorum", "classic"), default="quorum", help="of the peers; default quorum")
    made.add_argument("--seed", type=int, default=1, help="of the order in the rounds; default 1")


def _files(made: argparse.ArgumentParser) -> None:
    made.add_argument("--folder", type=Path, default=Path(), help="where the files are, on a disk; default: here")
    made.add_argument("--works", nargs="+", choices=sqlite.WORKS, metavar="WORK", help=", ".join(sqlite.WORKS))
    made.add_argument(
        "--clients", nargs="+", choices=tuple(sqlite.CLIENTS), metavar="CLIENT", help=", ".join(sqlite.CLIENTS)
    )
    made.add_argument(
        "--synchronous", nargs="+", choices=sqlite.SYNCHRONOUS, help="default: FULL, then NORMAL; --quick: FULL"
    )
    made.add_argument("--seed", type=int, default=1, help="of the order in the rounds; default 1")


def _count(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("at least 2")
    return number


def _count_of_repeats(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.01 <= number <= 600:
        raise argparse.ArgumentTypeError("0.01 to 600")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    given = parser().parse_args(arguments)
    if given.command in ("report", "all") and find_spec("matplotlib") is None:
        print("charts need matplotlib: pip install matplotlib", file=sys.stderr)
        return 1
    if given.command == "report":
        return report(given.file, given.to)
    # What a bus logs of its attempts to connect says the same as the error that follows.
    logging.getLogger("eventbus").setLevel(logging.CRITICAL)
    screen = Screen()
    try:
        with target(given.transport, needed=given.command not in NEED_NO_BROKER) as broker:
            if given.command == "tune":
                return tune(given, broker, screen)
            return measure(given, broker, screen)
    except (EventBusError, sqlite.NotADiskError) as error:
        print(f"cannot measure: {error}", file=sys.stderr)
        return 1


def tune(given: argparse.Namespace, broker: Target, screen: Screen) -> int:
    """Give advice for this broker."""
    return tune_command.run(
        broker.url,
        progress=screen,
        bus=given.bus,
        handler_ms=given.handler_ms,
        quick=given.quick,
        amount=given.messages,
        json_to=given.json,
    )


def measure(given: argparse.Namespace, broker: Target, screen: Screen) -> int:
    """Measure on this broker, show and write."""
    where = sqlite.environment(_choice_of_files(given)) if given.command == sqlite.NAME else environment(broker.name)
    screen.note(", ".join(f"{name} {value}" for name, value in where.items()))
    results: list[Result] = []
    notes: list[str] = []
    try:
        for found in _chosen(given, _plan(given, broker, screen)):
            if isinstance(found, Result):
                results.append(found)
                screen.show(found)
                for part, size in found.rss_mb.items():
                    screen.note(f"    resident memory at {part}: {size} MB")
                if found.idle_cpu is not None:
                    screen.note(f"    while it waits: {found.idle_cpu} s of processor time a minute")
            else:
                notes.append(str(found))
                screen.note(str(found))
    finally:  # a run of minutes that breaks off has something to show all the same
        if given.json is not None:
            write(given.json, results, where)
    if given.command == "all":
        from benchmarks.report import write_report

        print(f"report: {write_report(results, where, given.report, notes=notes)[0]}")
    return 0


def _plan(given: argparse.Namespace, broker: Target, screen: Screen) -> Plan:
    messages = given.messages or (QUICK_MESSAGES if given.quick else MESSAGES)
    return Plan(
        broker.url,
        Amount(messages, given.seconds),
        screen,
        given.repeats,
        tls_url=broker.tls_url,
        quick=given.quick,
        given=given.messages,
    )


def _choice_of_files(given: argparse.Namespace) -> sqlite.Choice:
    return sqlite.Choice(
        folder=given.folder, works=given.works, clients=given.clients, synchronous=given.synchronous, seed=given.seed
    )


def _chosen(given: argparse.Namespace, plan: Plan) -> Iterator[object]:
    if given.command in SINGLE:
        run: Callable[[Plan], Iterator[Result]] = SINGLE[given.command].run
        yield from run(plan)
        return
    if given.command == "all":
        for module in OWN:
            yield from module.run(plan)
        if given.without_peers:
            return
    if plan.given is None and plan.amount.seconds is None:
        # Peers differ a hundredfold in speed: each gets the messages that fill the time.
        plan = replace(plan, amount=Amount(seconds=PEER_QUICK_SECONDS if plan.quick else PEER_SECONDS))
    if given.command == sqlite.NAME:
        yield from sqlite.run(plan, _choice_of_files(given))
        return
    choice = peers.Choice(works=given.works, clients=given.clients, queue=given.queue, seed=given.seed)
    yield from peers.run(plan, choice)


def report(file: Path, folder: Path) -> int:
    """Draw results that were measured before."""
    from benchmarks.report import write_report

    try:
        results, where = read(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{file} holds no results of --json: {error}", file=sys.stderr)
        return 1
    print(write_report(results, where, folder)[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
