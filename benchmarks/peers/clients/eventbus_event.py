"""The event and the question of the eventbus clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.peers.clients.shared import Job
from eventbus import Queue, Request, event

TYPE = "benchmarks.peers.measured"
QUESTION = "benchmarks.peers.asked"


@event(TYPE, mandatory=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """As in ``benchmarks.work``, which the other environments cannot import."""

    number: int
    name: str = "Ada Lovelace"
    email: str = "ada@example.com"
    country: str = "se"
    text: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer."""

    number: int


@event(QUESTION)
@dataclass(frozen=True, slots=True)
class Asked(Request[Answered]):
    """The question."""

    number: int


def events(job: Job) -> Iterator[Measured]:
    """As many as asked for, each made when it is published."""
    text = json.loads(job.body)["text"]
    return (Measured(number=number, text=text) for number in range(job.messages))


def first(job: Job) -> Measured:
    """For setting up."""
    return next(events(job))


def existing(url: str) -> str:
    """The URL for a bus that declares nothing: the queue is there, with arguments that are not the bus's."""
    return f"{url}?declare=none"


def queue(job: Job) -> Queue:
    """The queue of the sample."""
    return Queue(name=job.queue)
