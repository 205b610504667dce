"""The options of ``python -m benchmarks tune``, and what it prints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.runner import Progress
from benchmarks.tune import BUSES, TuneError, tune

FAILED = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options beside those that choose the broker, ``--quick`` and ``--messages``."""
    parser.add_argument("--bus", choices=BUSES, help="the bus that you use; default: both")
    parser.add_argument(
        "--handler-ms", type=_milliseconds, default=0.0, metavar="MS", help="how long your handlers wait; default 0"
    )


def run(
    url: str,
    *,
    progress: Progress,
    bus: str | None = None,
    handler_ms: float = 0.0,
    quick: bool = False,
    amount: int | None = None,
    json_to: Path | None = None,
) -> int:
    """Measure, print the advice, and give the exit code: 1 where the broker cannot be measured."""
    buses = BUSES if bus is None else (bus,)
    try:
        advice = tune(url, progress=progress, buses=buses, handler_ms=handler_ms, quick=quick, amount=amount)
    except TuneError as error:
        print(f"tune: {error}", file=sys.stderr)
        return FAILED
    print(advice.text())
    if json_to is not None:
        json_to.write_text(advice.json() + "\n", encoding="utf-8")
    return 0


def _milliseconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 10_000:
        raise argparse.ArgumentTypeError("from 0 to 10000")
    return value
