"""``python -m tests.faults``: run faults against real brokers, and tell what became of every message."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.catalogue import faults
from tests.faults.controls import Caught, run_controls
from tests.faults.harness import Result
from tests.faults.suite import Suite


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="faults to run (default: all)")
    parser.add_argument("--list", action="store_true", help="list the faults")
    parser.add_argument("--repeats", type=int, help="runs of each fault (default: what the fault says)")
    parser.add_argument("--seed", type=int, help="seed of the first run; the others count up from it")
    parser.add_argument("--controls", action="store_true", help="run the negative controls (of the names given)")
    parser.add_argument("--keep", type=Path, help="folder for the records (default: a temporary one)")
    given = parser.parse_args()
    known = faults()
    if given.list:
        for name, cls in known.items():
            print(f"{name:24} {cls.title}")
        return 0
    for name in given.names if not given.controls else ():
        if name not in known:
            parser.error(f"no fault is named {name!r}; see --list")
    folder = given.keep or Path(tempfile.mkdtemp(prefix="eventbus-faults-"))
    seed = given.seed if given.seed is not None else secrets.randbelow(1_000_000)
    print(f"records: {folder}; first seed: {seed}", flush=True)
    began = time.monotonic()
    if given.controls:
        with Suite(folder) as suite:
            caught = run_controls(suite, seed, given.names, tell_control)
        print(f"caught {sum(one.caught for one in caught)}/{len(caught)} in {time.monotonic() - began:.0f} s")
        return 0 if all(one.caught for one in caught) else 1
    with Suite(folder) as suite:
        results = suite.run([known[name] for name in given.names or known], seed, given.repeats, tell)
    print(f"{len(results)} runs in {time.monotonic() - began:.0f} s")
    return 0 if all(result.passed for result in results) else 1


def tell_control(one: Caught) -> None:
    state = "caught" if one.caught else f"NOT CAUGHT ({one.result.invalid or sorted(one.result.codes)})"
    found = ", ".join(sorted(set().union(*one.sides.values()))) if one.sides else ""
    print(
        f"{one.control.mutant:24} by {one.control.fault.name:24} {one.result.seconds:5.1f} s  {state}: {found}",
        flush=True,
    )


def tell(result: Result) -> None:
    state = "passed" if result.passed else f"INVALID ({result.invalid})" if result.invalid else "FAILED"
    print(f"{result.fault.name:24} seed {result.seed:<8} {result.seconds:5.1f} s  {state}", flush=True)
    for side, verdict in result.verdicts.items():
        recovery = "-" if verdict.recovery is None else f"{verdict.recovery:.2f} s"
        print(f"    {side:5} {dict(+verdict.counts)} recovery {recovery}, longest gap {verdict.gap:.2f} s", flush=True)
    for problem in result.problems[:12]:
        print(f"    ! {problem}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
