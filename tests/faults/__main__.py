"""``python -m tests.faults``: run faults against real brokers, and tell what became of every message."""

from __future__ import annotations

import argparse
import fnmatch
import secrets
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from eventbus_rabbitmq._local import server

from tests.faults import report
from tests.faults.catalogue import FULL, IN_SHORT, faults
from tests.faults.controls import CONTROLS, Caught, run_controls
from tests.faults.harness import Result
from tests.faults.suite import Suite


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="faults, or controls, to run, as 'sqlite-*' (default: all)")
    parser.add_argument("--list", action="store_true", help="list the faults and the controls")
    parser.add_argument("--repeats", type=int, help="runs of each fault (default: what the fault says)")
    parser.add_argument("--seed", type=int, help="seed of the first run; the others count up from it")
    parser.add_argument("--controls", action="store_true", help="run negative controls, and no faults")
    parser.add_argument("--everything", action="store_true", help="run all faults and all negative controls")
    parser.add_argument("--report", type=Path, help="folder for the table as text and as a page")
    parser.add_argument("--keep", type=Path, help="folder for the records (default: a temporary one)")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    known = faults()
    if given.list:
        for name, cls in known.items():
            print(f"{name:26} {cls.title}")
        for one in CONTROLS:
            print(f"{one.mutant:26} control, by {one.fault.name}")
        return 0
    names = list(dict.fromkeys([*known, *(one.mutant for one in CONTROLS)]))
    matched = {pattern: fnmatch.filter(names, pattern) for pattern in given.names}
    unknown = [pattern for pattern, found in matched.items() if not found]
    if unknown:
        print(f"neither faults nor controls (see --list): {', '.join(unknown)}", file=sys.stderr)
        return 2
    given.exact, given.names = given.names, [name for found in matched.values() for name in found]
    folder = given.keep or Path(tempfile.mkdtemp(prefix="eventbus-faults-"))
    seed = given.seed if given.seed is not None else secrets.randbelow(1_000_000)
    installed = server.find()
    about = f"RabbitMQ {installed.version if installed else '?'}, Python {sys.version.split()[0]}, first seed {seed}"
    print(f"{about}; records: {folder}", flush=True)
    return run(given, folder, seed, about)


def chosen(given: argparse.Namespace, known: Collection[str]) -> Sequence[str]:
    """The faults to run. Those that are others in short run only when they are named, not as one of many."""
    if given.controls:
        return []
    if not given.names:
        return FULL
    return [name for name in given.names if name in known and (name in given.exact or name not in IN_SHORT)]


def run(given: argparse.Namespace, folder: Path, seed: int, about: str) -> int:
    known = faults()
    names = chosen(given, known)
    controls = given.everything or given.controls or not {*given.names} <= {*known}
    results: list[Result] = []
    caught: list[Caught] = []
    began = time.monotonic()
    with Suite(folder) as suite:
        if controls:
            caught = run_controls(suite, seed, given.names, tell_control)
        results = suite.run([known[name] for name in names], seed, given.repeats, tell)
    about = f"{about}; {time.monotonic() - began:.0f} s"
    table = report.rows(results)
    print(f"\n{report.as_text(table, caught)}\n{about}")
    if given.report is not None:
        report.write(given.report, table, caught, about)
    return 0 if all(row.passed for row in table) and all(one.caught for one in caught) else 1


def tell_control(one: Caught) -> None:
    state = "caught" if one.caught else f"NOT CAUGHT ({one.result.invalid or sorted(one.result.codes)})"
    found = ", ".join(one.reasons)
    line = f"{one.control.mutant:26} by {one.control.fault.name:26} {one.result.seconds:5.1f} s  {state}: {found}"
    print(line, flush=True)


def tell(result: Result) -> None:
    state = "passed" if result.passed else f"INVALID ({result.invalid})" if result.invalid else "FAILED"
    print(f"{result.fault.name:26} seed {result.seed:<8} {result.seconds:5.1f} s  {state}", flush=True)
    for side, verdict in result.verdicts.items() if not result.passed else ():
        recovery = "-" if verdict.recovery is None else f"{verdict.recovery:.2f} s"
        print(f"    {side:5} {dict(+verdict.counts)} recovery {recovery}, longest gap {verdict.gap:.2f} s", flush=True)
    for problem in result.problems[:12]:
        print(f"    ! {problem}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
