"""Handles the load and records every arrival and its end. ``python -m tests.faults.programs.worker``.

Two groups of handlers get every message: ``ordered``, one at a time, and ``parallel``, several at once.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import threading
import time
from typing import Any

from eventbus import AsyncEventBus, Delivery, EventBus, EventBusError, Queue, Retry, fixed
from tests.faults.programs.common import TICK, Program, Question, Step
from tests.faults.programs.publisher import tasks_left

RETRY = Retry(attempts=5, backoff=fixed(0.3))


class Handling:
    """One group's handler: records, works, and has the accidents that the settings ask for."""

    def __init__(self, program: Program, group: str) -> None:
        self.program = program
        self.group = group
        self._numbers = itertools.count(1)

    def begin(self, step: Step, delivery: Delivery) -> int:
        """An arrival; gives its number in this process."""
        number = next(self._numbers)
        self.program.record(
            "begin",
            group=self.group, n=number, id=step.id, key=step.key, seq=step.seq,
            mid=delivery.id, attempt=delivery.attempt, redelivered=delivery.redelivered,
        )  # fmt: skip
        self._accident("in")
        settings = self.program.settings
        if settings.fails and self.group == "parallel" and step.seq % settings.fails == 0 and delivery.attempt < 3:
            self.program.record("end", group=self.group, n=number, id=step.id, ok=False)
            raise RuntimeError("this one fails twice")
        if settings.hoard and self.group == "parallel" and step.seq % 20 == 0 and delivery.attempt == 1:
            self._hoard(step, number)
        return number

    def end(self, step: Step, number: int) -> None:
        """Its end."""
        self.program.record("end", group=self.group, n=number, id=step.id, ok=True)
        self._accident("after")

    def _accident(self, where: str) -> None:
        if self.program.accident == where and self.group == "parallel":
            self.program.record("accident", where=where)
            os.kill(os.getpid(), signal.SIGKILL)

    def _hoard(self, step: Step, number: int) -> None:
        """Ask for more memory than there is, as a handler with a big body might."""
        hoard = []
        try:
            while True:
                hoard.append(bytearray(16 << 20))
        except MemoryError:
            self.program.record("hoarded", id=step.id, blocks=len(hoard))
            self.program.record("end", group=self.group, n=number, id=step.id, ok=False)
            raise


def subscriptions(program: Program) -> dict[str, dict[str, Any]]:
    """Options of the two subscriptions."""
    settings = program.settings
    found: dict[str, dict[str, Any]] = {}
    for group in settings.groups:
        options: dict[str, Any] = {"name": group, "prefetch": settings.prefetch, "retry": RETRY}
        options["concurrency"] = 1 if group == "ordered" else settings.concurrency
        if settings.bound is not None:
            options["queue"] = Queue(
                name=f"{settings.service}.{group}",
                type="classic",
                arguments={"x-max-length": settings.bound, "x-overflow": "reject-publish"},
            )
        found[group] = options
    return found


def run_sync(program: Program) -> int:
    bus = EventBus(program.settings.url, **program.bus_options())

    def subscribe(group: str, options: dict[str, Any]) -> None:
        handling = Handling(program, group)

        @bus.subscribe(Step, **topic_of(program), **options)
        def handle(step: Step, delivery: Delivery) -> None:
            number = handling.begin(step, delivery)
            time.sleep(program.work)
            handling.end(step, number)

    for group, options in subscriptions(program).items():
        subscribe(group, options)
    if program.settings.ask:

        @bus.respond(Question, pattern=f"question.{program.settings.side}")
        def answer(question: Question) -> str:
            program.record("asked", id=question.id)
            return f"answer to {question.id}"

    watching = threading.Thread(target=watch_sync, args=(bus, program), name="watching", daemon=True)
    watching.start()
    try:
        report = bus.run()
    except EventBusError as error:
        bus.stop(2.0)
        return program.fatal(error)
    program.record("stop", abandoned=report.abandoned, unknown=report.unknown)
    program.stopping.set()
    watching.join(2.0)
    program.record.state("stopped")
    return 0


def topic_of(program: Program) -> dict[str, Any]:
    return {"pattern": f"step.{program.settings.side}"}


def watch_sync(bus: EventBus, program: Program) -> None:
    last: list[Any] = []
    was_ready = False
    while not program.stopping.wait(TICK):
        health = bus.health()
        program.watch(health, last)
        if health.status == "ready" and not was_ready:
            was_ready = True
            program.record.state("ready")


def limit_memory(program: Program) -> None:
    """A hook: bound this process's address space, as a container's limit would."""
    import resource

    limit = 1 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


async def run_async(program: Program) -> int:
    bus = AsyncEventBus(program.settings.url, **program.bus_options())

    def subscribe(group: str, options: dict[str, Any]) -> None:
        handling = Handling(program, group)

        @bus.subscribe(Step, **topic_of(program), **options)
        async def handle(step: Step, delivery: Delivery) -> None:
            number = handling.begin(step, delivery)
            await program.sleep(program.work)
            handling.end(step, number)

    for group, options in subscriptions(program).items():
        subscribe(group, options)
    if program.settings.ask:

        @bus.respond(Question, pattern=f"question.{program.settings.side}")
        async def answer(question: Question) -> str:
            program.record("asked", id=question.id)
            return f"answer to {question.id}"

    watching = asyncio.create_task(watch_async(bus, program))
    try:
        report = await bus.run()
    except EventBusError as error:
        await bus.stop(2.0)
        watching.cancel()
        return program.fatal(error)
    program.record("stop", abandoned=report.abandoned, unknown=report.unknown)
    program.stopping.set()
    await watching
    program.record.state("unlooped", tasks=await tasks_left())
    return 0


async def watch_async(bus: AsyncEventBus, program: Program) -> None:
    last: list[Any] = []
    was_ready = False
    while not program.stopping.is_set():
        health = bus.health()
        program.watch(health, last)
        if health.status == "ready" and not was_ready:
            was_ready = True
            program.record.state("ready", tasks=len(asyncio.all_tasks()))
        await asyncio.sleep(TICK)


def main() -> int:
    program = Program()
    if program.settings.side == "sync":
        return run_sync(program)
    code = asyncio.run(run_async(program))
    program.record.state("stopped")
    return code


if __name__ == "__main__":
    sys.exit(main())
