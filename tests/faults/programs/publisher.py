"""Publishes a steady load and records what became of each message. ``python -m tests.faults.programs.publisher``.

One lane is pipelined by receipts; the others wait for each confirm. Every lane is a key of its own, numbered in order.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from typing import Any

from eventbus import AsyncEventBus, EventBus, EventBusError
from tests.faults.programs.common import TICK, Program, Question, Step, told

PIPE = "pipe"


class Lane:
    """One key: its next number, and when that is due."""

    def __init__(self, program: Program, name: str) -> None:
        self.program = program
        self.key = f"{program.settings.side}-{program.record._pid}-{name}"
        self.number = 0
        self.piped = name == PIPE
        self.pause = len(program.settings.lanes) / program.settings.rate
        self.due = time.monotonic()

    def wait(self) -> float:
        """Seconds until the next message; a lane that fell behind does not catch up."""
        now = time.monotonic()
        self.due = max(self.due + self.pause, now - self.pause)
        return max(0.0, self.due - now) if not self.program.paused.is_set() else TICK

    def ends(self) -> bool:
        """Whether the lane publishes no more."""
        count = self.program.settings.count
        return self.program.stopping.is_set() or (count is not None and self.number >= count)

    def next(self) -> Step | None:
        """The next message, recorded as an attempt; None while paused."""
        if self.program.paused.is_set():
            return None
        self.number += 1
        step = Step(
            id=f"{self.key}-{self.number}",
            side=self.program.settings.side,
            key=self.key,
            seq=self.number,
            pad="x" * self.program.settings.size,
        )
        self.program.record("attempt", id=step.id, key=self.key, seq=self.number)
        return step

    def ended(self, step: Step, error: BaseException | None) -> None:
        """Record an outcome."""
        self.program.record("outcome", id=step.id, **told(error))


def beside(command: str) -> dict[str, Any]:
    """Where to publish a message that is meant to fail: ``bad exchange NAME`` or ``bad topic NAME``."""
    _, what, name = command.split()
    return {"exchange": name} if what == "exchange" else {"topic": name}


# -- threads --------------------------------------------------------------------------------------------------


def run_sync(program: Program) -> int:
    bus = EventBus(program.settings.url, **program.bus_options())
    try:
        bus.start(timeout=30)
    except EventBusError as error:
        bus.stop()
        return program.fatal(error)
    if program.settings.ask:
        ask(bus, program, 1)  # the first one opens the connection that replies come by
    program.record.state("ready")
    lanes = [Lane(program, name) for name in program.settings.lanes]
    threads = [threading.Thread(target=pipelined if lane.piped else one_by_one, args=(bus, lane)) for lane in lanes]
    if program.settings.ask:
        threads.append(threading.Thread(target=asking, args=(bus, program)))
    for thread in threads:
        thread.start()
    last: list[Any] = []
    while any(thread.is_alive() for thread in threads):
        program.watch(bus.health(), last)
        if not program.commands.empty():
            publish_badly(bus, program, program.commands.get())
        threads[0].join(TICK) if threads[0].is_alive() else threads[-1].join(TICK)
    program.record.state("healed")
    began = time.monotonic()
    report = bus.stop()
    program.record("stop", seconds=time.monotonic() - began, abandoned=report.abandoned, unknown=report.unknown)
    program.record.state("stopped")
    return 0


def one_by_one(bus: EventBus, lane: Lane) -> None:
    while not lane.ends():
        if (pause := lane.wait()) > 0:
            time.sleep(pause)
        step = lane.next()
        if step is not None:
            error: BaseException | None = None
            try:
                bus.publish(step)
            except BaseException as raised:
                error = raised
            lane.ended(step, error)


def pipelined(bus: EventBus, lane: Lane) -> None:
    open_: deque[tuple[Step, Any]] = deque()
    while not lane.ends():
        if (pause := lane.wait()) > 0:
            time.sleep(pause)
        step = lane.next()
        if step is not None:
            try:
                open_.append((step, bus.submit(step)))
            except BaseException as error:
                lane.ended(step, error)
        while open_ and open_[0][1].done():
            note(lane, *open_.popleft())
    while open_:
        note(lane, *open_.popleft())


def note(lane: Lane, step: Step, receipt: Any) -> None:
    try:
        lane.ended(step, receipt.error())
    except BaseException as error:
        lane.ended(step, error)


def asking(bus: EventBus, program: Program) -> None:
    number = 1
    while not program.stopping.is_set():
        number += 1
        ask(bus, program, number)
        time.sleep(TICK)


def ask(bus: EventBus, program: Program, number: int) -> None:
    question = Question(id=f"{program.record._pid}-{number}", side=program.settings.side)
    program.record("ask", id=question.id)
    try:
        answer = bus.request(question, timeout=program.settings.timeout)
        program.record("answer", id=question.id, right=answer == f"answer to {question.id}", outcome="reply")
    except BaseException as error:
        program.record("answer", id=question.id, right=True, **told(error))


def publish_badly(bus: EventBus, program: Program, command: str) -> None:
    error: BaseException | None = None
    try:
        bus.publish(Step(id="bad", side="nowhere", key="bad", seq=0), **beside(command))
    except BaseException as raised:
        error = raised
    program.record("bad", command=command, **told(error))


# -- tasks ----------------------------------------------------------------------------------------------------


async def run_async(program: Program) -> int:
    bus = AsyncEventBus(program.settings.url, **program.bus_options())
    program.record.state("loop", tasks=len(asyncio.all_tasks()))
    try:
        await bus.start(timeout=30)
    except EventBusError as error:
        await bus.stop()
        return program.fatal(error)
    if program.settings.ask:
        await ask_async(bus, program, 1)
    program.record.state("ready", tasks=len(asyncio.all_tasks()))
    lanes = [Lane(program, name) for name in program.settings.lanes]
    tasks = [asyncio.create_task((pipelined_async if lane.piped else one_by_one_async)(bus, lane)) for lane in lanes]
    if program.settings.ask:
        tasks.append(asyncio.create_task(asking_async(bus, program)))
    last: list[Any] = []
    while not all(task.done() for task in tasks):
        program.watch(bus.health(), last)
        if not program.commands.empty():
            await publish_badly_async(bus, program, program.commands.get())
        await asyncio.wait(tasks, timeout=TICK)
    for task in tasks:
        await task
    await asyncio.sleep(0)
    program.record.state("healed", tasks=len(asyncio.all_tasks()))
    began = time.monotonic()
    report = await bus.stop()
    program.record("stop", seconds=time.monotonic() - began, abandoned=report.abandoned, unknown=report.unknown)
    left = await tasks_left()
    program.record.state("unlooped", tasks=left)
    return 0


async def tasks_left() -> int:
    """Tasks other than ours; those that were cancelled get a moment to end."""
    until = time.monotonic() + 2.0
    while (left := len(asyncio.all_tasks())) > 1 and time.monotonic() < until:
        await asyncio.sleep(0.01)
    return left


async def one_by_one_async(bus: AsyncEventBus, lane: Lane) -> None:
    while not lane.ends():
        await asyncio.sleep(lane.wait())
        step = lane.next()
        if step is not None:
            error: BaseException | None = None
            try:
                await bus.publish(step)
            except BaseException as raised:
                error = raised
            lane.ended(step, error)


async def pipelined_async(bus: AsyncEventBus, lane: Lane) -> None:
    open_: deque[tuple[Step, Any]] = deque()
    while not lane.ends():
        await asyncio.sleep(lane.wait())
        step = lane.next()
        if step is not None:
            try:
                open_.append((step, await bus.submit(step)))
            except BaseException as error:
                lane.ended(step, error)
        while open_ and open_[0][1].done():
            await note_async(lane, *open_.popleft())
    while open_:
        await note_async(lane, *open_.popleft())


async def note_async(lane: Lane, step: Step, receipt: Any) -> None:
    try:
        lane.ended(step, await receipt.error())
    except BaseException as error:
        lane.ended(step, error)


async def asking_async(bus: AsyncEventBus, program: Program) -> None:
    number = 1
    while not program.stopping.is_set():
        number += 1
        await ask_async(bus, program, number)
        await asyncio.sleep(TICK)


async def ask_async(bus: AsyncEventBus, program: Program, number: int) -> None:
    question = Question(id=f"{program.record._pid}-{number}", side=program.settings.side)
    program.record("ask", id=question.id)
    try:
        answer = await bus.request(question, timeout=program.settings.timeout)
        program.record("answer", id=question.id, right=answer == f"answer to {question.id}", outcome="reply")
    except BaseException as error:
        program.record("answer", id=question.id, right=True, **told(error))


async def publish_badly_async(bus: AsyncEventBus, program: Program, command: str) -> None:
    error: BaseException | None = None
    try:
        await bus.publish(Step(id="bad", side="nowhere", key="bad", seq=0), **beside(command))
    except BaseException as raised:
        error = raised
    program.record("bad", command=command, **told(error))


def main() -> int:
    program = Program()
    if program.settings.side == "sync":
        return run_sync(program)
    code = asyncio.run(run_async(program))
    program.record.state("stopped")
    return code


if __name__ == "__main__":
    sys.exit(main())
