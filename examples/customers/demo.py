"""Runs all services of the example, and tells what went where: ``python -m examples.customers.demo``.

``--broker memory``: one process, each service with a bus of its own. ``--broker rabbitmq``: a private RabbitMQ,
each service a process, ended by SIGTERM. Exits with 1 if the numbers do not add up.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

from examples.customers import analytics, emails, pricing, support, users
from examples.customers.transcript import Transcript

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("emails", "support", "analytics", "pricing")
PATIENCE = 20.0
READY_OR_ENDED = r"^ready$|^\(ended\)$"


class DemoFailed(Exception):
    """Something did not happen; the text says what."""


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


class Service:
    """One service as a process; its lines go to the transcript, its log is kept for the case of failure."""

    def __init__(self, name: str, url: str, transcript: Transcript) -> None:
        self.name = name
        self._transcript = transcript
        self._log: IO[str] = tempfile.TemporaryFile("a+", encoding="utf-8")  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"examples.customers.{name}"],
            cwd=ROOT,
            # The URL has a password: the environment keeps it out of the list of processes.
            env={**os.environ, "EVENTBUS_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"demo-{name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        say = self._transcript.teller(self.name)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            say(line.rstrip())
        say("(ended)")

    def wait_ready(self) -> None:
        """Until it has said so.

        :raises DemoFailed: it ended instead, or said nothing in time.
        """
        said = self._transcript
        said.wait_until(lambda: said.count(self.name, READY_OR_ENDED) > 0, PATIENCE)
        if said.count(self.name, r"^\(ended\)$"):
            self.wait(PATIENCE)
        if not said.count(self.name, "^ready$"):
            raise DemoFailed(f"{self.name} was not ready after {PATIENCE:g} s{self._said()}")

    def terminate(self) -> None:
        """Ask it to drain and end."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Until it has ended well.

        :raises DemoFailed: it did not end, or not with 0.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"{self.name} did not end within {seconds:g} s{self._said()}") from None
        self._reader.join()
        if code != 0:
            raise DemoFailed(f"{self.name} ended with exit code {code}{self._said()}")

    def _said(self) -> str:
        self._log.seek(0)
        text = self._log.read().strip()
        return f"; its log:\n{text}" if text else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()


def in_processes(transcript: Transcript, url_of: Callable[[str], str]) -> None:
    """Each service is a process: start them, let the users register, stop them in good order.

    ``url_of`` gives the URL for a service by its name.
    """
    with ExitStack() as stack:
        services = [stack.enter_context(Service(name, url_of(name), transcript)) for name in SERVICES]
        for service in services:
            service.wait_ready()
        stack.enter_context(registering := Service("users", url_of("users"), transcript))
        registering.wait(PATIENCE)
        transcript.wait_until(transcript.complete, PATIENCE)
        for service in services:
            service.terminate()
        for service in services:
            service.wait(PATIENCE)


# -- the command --------------------------------------------------------------------------------------------


class _Log(logging.Handler):
    """Keeps the log of a run in one process, for the case of failure."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def run(broker: str, url: str | None, transcript: Transcript) -> str:
    """Run the demo; gives a line that says on what."""
    if broker == "memory":
        asyncio.run(in_one_process(transcript))
        return "in memory: one process, each service with its own bus"
    if url is not None:
        in_processes(transcript, lambda service: url)
        return "over the broker of --url: each service a process"
    from eventbus_rabbitmq.local_broker import LocalBroker

    with LocalBroker() as private:
        in_processes(transcript, lambda service: private.url)
        return f"over a private RabbitMQ {private.version}: each service a process, all ended in order on SIGTERM"


def tell(transcript: Transcript, where: str, seconds: float) -> None:
    """Print the story."""
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"{bold}Customers, {where}{plain}")
    for number, (title, lines) in enumerate(transcript.story(), 1):
        print(f"\n{bold}{number}. {title}{plain}")
        for service, text in lines:
            print(f"   {service:<10} {text}")
    print(f"\n{bold}Totals{plain} after {seconds:.1f} s")
    for name, count in transcript.totals().items():
        print(f"   {name:<26}{count:>4}")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m examples.customers.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=("memory", "rabbitmq"), help="default: memory, or rabbitmq with --url")
    parser.add_argument("--url", help="use this broker instead of a private one, such as amqp://guest:guest@localhost/")
    given = parser.parse_args()
    broker = given.broker or ("rabbitmq" if given.url else "memory")
    if broker == "memory" and given.url:
        parser.error("--url is for --broker rabbitmq")
    log = _Log()
    if broker == "memory":
        logging.getLogger("eventbus").addHandler(log)
    transcript, began = Transcript(), time.monotonic()
    try:
        where = run(broker, given.url, transcript)
    except DemoFailed as failed:
        print(f"the demo failed: {failed}", file=sys.stderr)
        return 1
    tell(transcript, where, time.monotonic() - began)
    problems = transcript.problems()
    if problems:
        print("\nThis does not add up:", *problems, *log.lines, sep="\n   ", file=sys.stderr)
        return 1
    print("\nEverything adds up.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
