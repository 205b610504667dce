"""What is measured, and by whom. Standard library only: the clients import it where eventbus is not installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Synchronous = Literal["FULL", "NORMAL"]
Settings = dict[str, str | int | float]

SYNCHRONOUS: tuple[Synchronous, ...] = ("FULL", "NORMAL")
BARE = "bare-sqlite3"
BODY = 200
WINDOW, PREFETCH = 1000, 200
FEW, MANY, QUICK_MANY = 1_000, 1_000_000, 20_000
"""Messages in the queue from which is claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One thing to do. ``pace`` is about how many messages a second a usual client does: the first guess.

    ``team`` is how many publisher and consumer processes do it together; None is one process that does both.
    ``queued`` messages are in the file before, and ``messages`` are measured however long a sample shall last.
    """

    name: str
    pace: int = 2_000
    settings: Mapping[str, str | int | float] = field(default_factory=dict)
    team: tuple[int, int] | None = None
    queued: int = 0
    messages: int | None = None
    quick_messages: int | None = None
    compared: bool = True
    """Its rate says something beside that of the bare loop."""
    rounds: int | None = None
    quick_rounds: int | None = None
    """At most, where more would take long and show nothing new."""

    def rounds_of(self, repeats: int, *, quick: bool) -> int:
        """How many of the rounds that are asked for."""
        most = self.quick_rounds if quick else self.rounds
        return repeats if most is None else min(repeats, most)

    @property
    def publishes_only(self) -> bool:
        """Everything is in the queue at the end."""
        return self.name.startswith("publish")


CLAIMS = 4
"""Batches of a sample; the first is for warming up."""
IDLE_SECONDS, QUICK_IDLE_SECONDS = 10, 2


def works(*, quick: bool) -> dict[str, Work]:
    """All of them, in their order."""
    many = QUICK_MANY if quick else MANY
    made = (
        Work(name="publish-one", settings={"window": 1}),
        Work(name="publish", settings={"window": WINDOW}, pace=10_000),
        Work(name="handle", settings={"prefetch": PREFETCH}, pace=3_000),
        Work(name="processes", pace=8_000, settings={"publishers": 4, "consumers": 4}, team=(4, 4), quick_rounds=1),
        Work(name="latency", team=(1, 1), messages=200, quick_messages=30, compared=False, quick_rounds=1),
        *(
            Work(
                name="claim",
                settings={"queued": queued},
                queued=queued,
                messages=(CLAIMS - 1) * PREFETCH,
                quick_rounds=1,
            )
            for queued in (FEW, many)
        ),
        Work(
            name="idle",
            messages=IDLE_SECONDS,
            quick_messages=QUICK_IDLE_SECONDS,
            compared=False,
            rounds=1,
            quick_rounds=1,
        ),
    )
    return {f"{work.name}-{work.queued}" if work.queued > FEW else work.name: work for work in made}


WORKS: tuple[str, ...] = tuple(dict.fromkeys(work.name for work in works(quick=True).values()))
MESSAGING = tuple(name for name in WORKS if name != "idle")
"""Those of any client: one that polls is as busy while it waits as somebody has told it to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who does it: a module under ``clients`` in an environment made from ``requirements/<environment>.txt``.

    ``lacks`` is what it does not do of all that the bus does for the same price.
    """

    name: str
    module: str
    environment: str = ""
    lacks: str = ""
    works: tuple[str, ...] = MESSAGING
    one_by_one: bool = False
    """It commits each message by itself, whatever the window."""
    speed: float = 1.0


QUEUES = "sqlite-queues"
POLLS = "no wake-up across processes (polled every 10 ms here)"

CLIENTS: dict[str, Client] = {
    client.name: client
    for client in (
        Client(
            name=BARE,
            module="bare",
            lacks="the yardstick: takes and deletes in one transaction, so a crash loses what it holds; no routing, "
            "groups, leases, retries or wake-up (polled every 1 ms)",
            speed=5.0,
        ),
        Client(name="eventbus-sync", module="eventbus_sync", works=WORKS),
        Client(
            name="eventbus-async",
            module="eventbus_async",
            works=tuple(name for name in WORKS if name != "claim"),  # the same engine as in sync
        ),
        Client(
            name="persist-queue",
            module="persist_queue_client",
            environment=QUEUES,
            lacks="a claim is not atomic between processes; no batches, groups, leases or redelivery while others run; "
            + POLLS,
            one_by_one=True,
            speed=0.2,
        ),
        Client(
            name="litequeue",
            module="litequeue_client",
            environment=QUEUES,
            lacks=f"claims one at a time; no groups, leases or redelivery but by hand; sets synchronous=NORMAL unless "
            f"told otherwise; {POLLS}",
            speed=0.3,
        ),
        Client(
            name="huey",
            module="huey_client",
            environment=QUEUES,
            lacks=f"dequeue deletes: no ack, a crash loses the message; no batches or groups; {POLLS}",
            one_by_one=True,
            speed=0.2,
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What of it to run, and in which folder. ``None`` is everything; ``build=False`` makes no environment."""

    folder: Path
    works: Sequence[str] | None = None
    clients: Sequence[str] | None = None
    synchronous: Sequence[Synchronous] | None = None
    seed: int = 1
    build: bool = True

    def chosen_works(self, *, quick: bool) -> list[Work]:
        """In the order of the registry."""
        return [work for work in works(quick=quick).values() if self.works is None or work.name in self.works]

    def chosen_clients(self) -> list[Client]:
        """The bare loop is always among them: without it the rates have no measure."""
        wanted = {BARE, *(self.clients if self.clients is not None else CLIENTS)}
        return [client for client in CLIENTS.values() if client.name in wanted]

    def chosen_synchronous(self, *, quick: bool) -> list[Synchronous]:
        """FULL first."""
        usual = SYNCHRONOUS[:1] if quick else SYNCHRONOUS
        return [name for name in SYNCHRONOUS if name in (self.synchronous or usual)]
