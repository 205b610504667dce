"""Runs all services of the example, and tells what went where: ``python -m examples.customers.demo``.

``--broker sqlite``, the default: each service a process, as in production, over one file. ``--broker rabbitmq``: the
same over a private RabbitMQ. On both, one service is killed in the middle. ``--broker memory``: one process, each
service with a bus of its own. Exits with 1 if the numbers do not add up.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from urllib.parse import quote

from examples.customers import analytics, emails, pricing, support, users
from examples.customers.crash import Crash
from examples.customers.processes import PATIENCE, DemoFailed, Service
from examples.customers.transcript import Transcript

SERVICES = ("emails", "support", "analytics", "pricing")


# -- one process --------------------------------------------------------------------------------------------


async def in_one_process(transcript: Transcript, url: str = "memory://demo") -> None:
    """All services here: the async ones on this loop, the sync ones on their threads."""
    counting = analytics.build(url, transcript.teller("analytics"))
    answering = pricing.build(url, transcript.teller("pricing"))
    async with counting, answering:
        await asyncio.to_thread(_sync_services, transcript, url)


def _sync_services(transcript: Transcript, url: str) -> None:
    with emails.build(url, transcript.teller("emails")), support.build(url, transcript.teller("support")):
        with users.build(url) as bus:
            users.work(bus, transcript.teller("users"))
        transcript.wait_until(transcript.complete, PATIENCE)


# -- a process for each service -----------------------------------------------------------------------------


def in_processes(transcript: Transcript, url_of: Callable[[str], str], crash: Crash | None = None) -> None:
    """Each service is a process: start them, let the users register, stop them in good order.

    ``url_of`` gives the URL for a service by its name. With ``crash``, one is killed when the users are done.
    """
    with ExitStack() as stack:

        def start(name: str, transcript: Transcript, *arguments: str) -> Service:
            return stack.enter_context(Service(name, url_of(name), transcript, *arguments))

        services = {name: start(name, transcript) for name in SERVICES}
        for service in services.values():
            service.wait_ready()
        start("users", transcript).wait(PATIENCE)
        transcript.wait_until(transcript.complete, PATIENCE)
        if crash is not None:
            crash.play(services, start)
        for service in services.values():
            service.terminate()
        for service in services.values():
            service.wait(PATIENCE)


# -- the command --------------------------------------------------------------------------------------------


class _Log(logging.Handler):
    """Keeps the log of a run in one process, for the case of failure."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def run(broker: str, url: str | None, transcript: Transcript, crash: Crash) -> str:
    """Run the demo; gives a line that says on what."""
    if broker == "memory":
        asyncio.run(in_one_process(transcript))
        return "in memory: one process, each service with its own bus"
    if url is not None:
        in_processes(transcript, lambda service: url, crash)
        return "over the broker of --url: each service a process"
    if broker == "sqlite":
        with tempfile.TemporaryDirectory(prefix="eventbus-demo-") as folder:
            file = f"sqlite:///{quote(folder)}/bus.db"
            in_processes(transcript, lambda service: file, crash)
            return "over one SQLite file and no server: each service a process"
    from eventbus_rabbitmq.local_broker import LocalBroker

    with LocalBroker() as private:
        in_processes(transcript, lambda service: private.url, crash)
        return f"over a private RabbitMQ {private.version}: each service a process, all ended in order on SIGTERM"


def tell(transcript: Transcript, where: str, seconds: float, crash: Crash | None = None) -> None:
    """Print the story."""
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    chapters = [*transcript.story(), *([crash.story()] if crash else [])]
    print(f"{bold}Customers, {where}{plain}")
    for number, (title, lines) in enumerate(chapters, 1):
        print(f"\n{bold}{number}. {title}{plain}")
        for service, text in lines:
            print(f"   {service:<10} {text}")
    print(f"\n{bold}Totals{plain} after {seconds:.1f} s")
    for name, count in (transcript.totals() | (crash.totals() if crash else {})).items():
        print(f"   {name:<26}{count:>4}")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m examples.customers.demo", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--broker", choices=("sqlite", "memory", "rabbitmq"), help="default: sqlite, or what --url says"
    )
    parser.add_argument("--url", help="use this broker, such as sqlite:///bus.db or amqp://guest:guest@localhost/")
    given = parser.parse_args()
    if given.broker and given.url:
        parser.error("--url says which broker it is: leave --broker out")
    if given.url and given.url.startswith("memory:"):
        parser.error("memory:// stays within one process: --broker memory")
    broker = given.broker or "sqlite"
    log = _Log()
    if broker == "memory":
        logging.getLogger("eventbus").addHandler(log)
    transcript, crash, began = Transcript(), Crash(), time.monotonic()
    try:
        where = run(broker, given.url, transcript, crash)
    except DemoFailed as failed:
        print(f"the demo failed: {failed}", file=sys.stderr)
        return 1
    crashed = None if broker == "memory" else crash
    tell(transcript, where, time.monotonic() - began, crashed)
    problems = transcript.problems() + (crashed.problems() if crashed else [])
    if problems:
        print("\nThis does not add up:", *problems, *log.lines, sep="\n   ", file=sys.stderr)
        return 1
    print("\nEverything adds up.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
