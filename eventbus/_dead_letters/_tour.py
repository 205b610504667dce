"""Which dead-letter queues are gone through, and what is noted on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from eventbus._bus._core import BusCore
from eventbus._dead_letters._values import DeadLetterFilter, DeadLetterQueue, DeadLetterReport
from eventbus._dead_letters._visitors import Moving, Visit
from eventbus._dead_letters._walking import Arrivals, Walk
from eventbus._errors import ConfigurationError, EventBusError, TopologyMismatch
from eventbus._plugins import transport_from
from eventbus._steps import Steps
from eventbus._topology import DEAD_SUFFIX, Topology
from eventbus.transport import AsyncLink, LinkSettings, SyncLink, Transport

SERVICE = "eventbus-dead-letters"


class Place(msgspec.Struct, frozen=True):
    """A dead-letter queue to go to; ``expected`` if it is an error that it is not there."""

    queue: DeadLetterQueue
    expected: bool


class DeadLettersBase:
    """What the sync and the async class have in common: the transport, and the dead-letter queues that they know."""

    def __init__(
        self,
        target: BusCore | Transport | str,
        *,
        queues: Iterable[str | DeadLetterQueue] = (),
        topology: Topology | None = None,
        timeout: float = 10.0,
        max_body: int | None = None,
    ) -> None:
        self._timeout = timeout
        if isinstance(target, BusCore):
            self._transport: Transport = target.transport
            topology = topology or target.topology()
            max_body = max_body or target._settings.max_body
        else:
            self._transport = transport_from(target) if isinstance(target, str) else target
        if not isinstance(self._transport, Transport):
            raise ConfigurationError(f"dead letters are those of a bus, a transport or a URL, not {target!r}")
        self._settings = LinkSettings(service=SERVICE, max_body=max_body or LinkSettings(service="").max_body)
        self._places = places_of(tuple(queues), queues_of(topology or Topology()))
        if not self._places:
            raise ConfigurationError(
                "no dead-letter queues are known: give the bus whose subscriptions have some, or queues=[...]"
            )

    @property
    def queues(self) -> tuple[DeadLetterQueue, ...]:
        """The dead-letter queues that are gone through."""
        return tuple(place.queue for place in self._places)


def queues_of(topology: Topology) -> tuple[DeadLetterQueue, ...]:
    """The dead-letter queues of a topology, each with the queues whose dead letters it takes."""
    sources: dict[str, list[str]] = {}
    for queue in topology.queues:
        if queue.dead_letter and queue.name:
            sources.setdefault(queue.dead_letter, []).append(queue.name)
    return tuple(DeadLetterQueue(name, tuple(names)) for name, names in sources.items())


def places_of(named: tuple[str | DeadLetterQueue, ...], known: tuple[DeadLetterQueue, ...]) -> tuple[Place, ...]:
    """Those that were named, else all that are known.

    A name is that of a group's queue or of its dead-letter queue; where nobody knows better, the latter is the former
    with ``.dead``.
    """
    if not named:
        return tuple(Place(queue, False) for queue in known)
    found = (one if isinstance(one, DeadLetterQueue) else _called(one, known) for one in named)
    return tuple(Place(queue, True) for queue in dict.fromkeys(found))


def _called(name: str, known: tuple[DeadLetterQueue, ...]) -> DeadLetterQueue:
    for queue in known:
        if name == queue.name or name in queue.sources:
            return queue
    source = name.removesuffix(DEAD_SUFFIX)
    return DeadLetterQueue(source + DEAD_SUFFIX, (source,))


class Tour:
    """One way through all places, and what was noted: what is missing or shared, and how many messages there were."""

    def __init__(self, base: DeadLettersBase, visit: Visit) -> None:
        self._base = base
        self._visit = visit
        self._missing: list[str] = []
        self._shared: list[str] = []
        self._looked_at = 0

    def places(self) -> Iterator[Place]:
        """Those where something that is meant can lie, until the visitor has enough."""
        for place in self._base._places:
            if _possible(place.queue, self._visit.where) and not self._visit.full:
                yield place

    @contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """Be at a place, and note it if it is not there."""
        try:
            yield
        except TopologyMismatch:
            if place.expected:
                raise
            self._missing.append(place.queue.name)
        except EventBusError as error:
            if isinstance(self._visit, Moving) and not self._visit.dry_run:
                error.add_note(
                    f"{self._visit.done} dead letters were dealt with before; the others are where they were"
                )
            raise

    def steps(self, place: Place, link: SyncLink | AsyncLink, arrivals: Arrivals) -> Steps[bool]:
        """Go through a place over a link; gives whether that is done."""
        walk = Walk(link, place.queue.name, arrivals)
        self._visit.place = place.queue
        self._looked_at += yield from walk.steps(self._visit)
        if isinstance(self._visit, Moving):
            yield from walk.count()  # what was discarded is gone then
        if walk.shared:
            self._shared.append(place.queue.name)
        return walk.finished

    def noted(self) -> dict[str, Any]:
        """The fields that all results have."""
        return {
            "matched": self._visit.matched,
            "looked_at": self._looked_at,
            "missing": tuple(self._missing),
            "shared": tuple(dict.fromkeys(self._shared)),
        }


def report_of(tour: Tour, moving: Moving) -> DeadLetterReport:
    """What has become of the dead letters."""
    return DeadLetterReport(
        done=moving.done,
        skipped=moving.matched - moving.done,
        problems=tuple(f"{text} ({number})" for text, number in moving.problems.items()),
        dry_run=moving.dry_run,
        **tour.noted(),
    )


def _possible(queue: DeadLetterQueue, where: DeadLetterFilter) -> bool:
    if where.queue is not None and not queue.takes(where.queue):
        return False
    prefix = f"{where.group}."
    return where.group is None or not queue.sources or any(name.startswith(prefix) for name in queue.sources)
