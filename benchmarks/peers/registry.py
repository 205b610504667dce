"""What is measured, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

QueueType = Literal["quorum", "classic"]

CEILING = "ceiling"
SMALL, LARGE = 120, 65536
PREFETCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One thing to do. ``pace`` is about how many messages a second a usual client does: the first guess."""

    name: str
    kind: Literal["publish", "consume", "rpc"]
    body: int = SMALL
    window: int = 1000
    pace: int

    def settings(self, queue: QueueType, window: int) -> dict[str, str | int | float]:
        """What a result says about how it was measured."""
        if self.kind == "rpc":
            return {"in flight": window}
        limit = {"window": window} if self.kind == "publish" else {"prefetch": PREFETCH}
        return {"queue": queue, **limit, "body": self.body}


WORKS: dict[str, Work] = {
    work.name: work
    for work in (
        Work(name="publish", kind="publish", pace=12_000),
        Work(name="publish-one", kind="publish", window=1, pace=1_000),
        Work(name="publish-64k", kind="publish", body=LARGE, window=100, pace=3_000),
        Work(name="consume", kind="consume", pace=25_000),
        Work(name="consume-64k", kind="consume", body=LARGE, window=100, pace=4_000),
        Work(name="rpc", kind="rpc", window=100, pace=3_000),
    )
}
QUICK_WORKS = ("publish", "publish-one", "consume", "rpc")

_ALL = tuple(WORKS)
_NO_RPC = tuple(name for name in WORKS if name != "rpc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who does it: a module under ``clients`` in an environment made from ``requirements/<environment>.txt``.

    ``one_by_one``: it cannot have more than one unconfirmed message, so that its window is 1 whatever was asked.
    """

    name: str
    module: str = ""
    environment: str = ""
    options: tuple[str, ...] = ()
    works: tuple[str, ...] = _ALL
    one_by_one: bool = False
    speed: float = 1.0
    """Beside a usual client, for the first guess."""

    def window(self, work: Work) -> int:
        """How many unconfirmed messages it has in this work."""
        return 1 if self.one_by_one and work.kind == "publish" else work.window

    def pace(self, work: Work) -> int:
        """First guess of its messages a second."""
        return WORKS["publish-one"].pace if self.window(work) == 1 else int(work.pace * self.speed)


_UVLOOP = ("--uvloop",)

CLIENTS: dict[str, Client] = {
    client.name: client
    for client in (
        Client(name=CEILING, module="ceiling", works=_NO_RPC),
        Client(name="eventbus-async", module="eventbus_async"),
        Client(name="eventbus-async-uvloop", module="eventbus_async", options=_UVLOOP),
        Client(name="eventbus-sync", module="eventbus_sync"),
        Client(name="go-amqp091", environment="go"),
        Client(name="aio-pika", module="aio_pika_client", environment="aio-pika", speed=0.3),
        Client(name="aio-pika-uvloop", module="aio_pika_client", environment="aio-pika", options=_UVLOOP, speed=0.3),
        Client(name="faststream", module="faststream_client", environment="faststream", speed=0.2),
        Client(name="pika-select", module="pika_select", environment="pika", works=_NO_RPC),
        Client(name="pika-threads", module="pika_threads", environment="pika-threads", works=_NO_RPC),
        Client(name="pika-blocking", module="pika_blocking", environment="pika", works=_NO_RPC, one_by_one=True),
        Client(name="kombu", module="kombu_client", environment="kombu", works=_NO_RPC, one_by_one=True),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What of it to run. ``None`` is everything; ``build=False`` makes no environment that is not there."""

    works: Sequence[str] | None = None
    clients: Sequence[str] | None = None
    queue: QueueType = "quorum"
    seed: int = 1
    build: bool = True

    def chosen_works(self, *, quick: bool) -> list[Work]:
        """In the order of the registry."""
        names = self.works if self.works is not None else QUICK_WORKS if quick else _ALL
        return [WORKS[name] for name in _known(names, WORKS, "work")]

    def chosen_clients(self) -> list[Client]:
        """The ceiling is always among them: without it the rates have no measure."""
        names = self.clients if self.clients is not None else tuple(CLIENTS)
        wanted = {CEILING, *_known(names, CLIENTS, "client")}
        return [client for client in CLIENTS.values() if client.name in wanted]


def _known(names: Sequence[str], known: dict[str, Work] | dict[str, Client], what: str) -> list[str]:
    for name in names:
        if name not in known:
            raise ValueError(f"no such {what}: {name!r}; there are {', '.join(known)}")
    return [name for name in known if name in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A client that could not take part, in a work or (``benchmark`` is ``peers``) at all."""

    benchmark: str = "peers"
    client: str
    reason: str

    def __str__(self) -> str:
        return f"{self.benchmark} {self.client}: absent ({self.reason})"
