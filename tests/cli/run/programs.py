"""Programs that the tests serve. Each handler says what it does; a job waits until there is a file ``go``."""

SYNC = """
import os, pathlib, threading, time
from eventbus import EventBus, Unroutable

bus = EventBus("memory://jobs", service="jobs")

@bus.subscribe(pattern="job")
def work(job: dict) -> None:
    os.write(1, b"began\\n")
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    os.write(1, b"done\\n")
"""

ASYNC = """
import asyncio, os, pathlib, threading, time
from eventbus import AsyncEventBus, EventBus, Unroutable

bus = AsyncEventBus("memory://jobs", service="jobs")

@bus.subscribe(pattern="job")
async def work(job: dict) -> None:
    os.write(1, b"began\\n")
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    os.write(1, b"done\\n")
"""

WITH_A_JOB = """
def send() -> None:
    with EventBus("memory://jobs") as sender:
        while True:
            try:
                return sender.publish({}, topic="job", mandatory=True)
            except Unroutable:
                time.sleep(0.01)

threading.Thread(target=send, daemon=True).start()
"""

QUIET = """
from eventbus import EventBus

bus = EventBus("memory://", service="quiet")

@bus.subscribe(pattern="quiet")
def quiet(event: dict) -> None: ...
"""

UNREADY = """
from eventbus import EventBus

bus = EventBus("amqp://127.0.0.1:1/", service="unready")
"""
