"""Before the first message is moved: which queues there are, and whether the destination has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from eventbus._errors import ConfigurationError, TopologyMismatch
from eventbus._inspection import CountsQueues, InspectsQueues, ListsQueues, QueueCount
from eventbus._message import Incoming
from eventbus._moving._flow import Side
from eventbus._moving._places import beside_of, declarable, lasting, places_of
from eventbus._moving._values import Choice, Place
from eventbus._steps import Ready, Steps, answer
from eventbus._topology import Topology
from eventbus.transport import ConsumerSpec


class Preparing:
    """Asks both sides about queues. ``wake`` is called when an answer has come."""

    def __init__(self, source: Side, destination: Side, topology: Topology | None, wake: Callable[[], None]) -> None:
        self._source, self._destination = source, destination
        self._topology = topology
        self._wake = wake

    def open(self) -> Steps[None]:
        """Until both are connected."""
        for side in (self._source, self._destination):
            side.link.open()
        for side in (self._source, self._destination):
            yield Ready(side.link)
        if not isinstance(self._source.link, InspectsQueues) or not isinstance(self._source.link, CountsQueues):
            raise ConfigurationError("nothing can be moved from this transport: its queues cannot be looked into")

    def places(self, choice: Choice) -> Steps[tuple[Place, ...]]:
        """The queues that are meant."""
        return places_of(choice, self._topology, (yield from self._listed()))

    def waiting(self, place: Place) -> Steps[int | None]:
        """How many messages wait in a queue at the source; None where there is no such queue.

        :raises TopologyMismatch: it should be there.
        """
        try:
            return (yield from self._count(self._source, place.name)).ready
        except TopologyMismatch as error:
            if place.expected:
                raise TopologyMismatch(f"the source has no queue {place.name!r}") from error
            return None

    def beside(self, places: tuple[Place, ...]) -> Steps[Mapping[str, int]]:
        """What waits at the source and was not meant, where it can tell."""
        listed = (yield from self._listed()) if self._source.connected else None
        return {} if listed is None else beside_of(places, {name: count.ready for name, count in listed.items()})

    def _listed(self) -> Steps[Mapping[str, QueueCount] | None]:
        link = self._source.link
        if not isinstance(link, ListsQueues):
            return None
        found: Mapping[str, QueueCount] = yield from answer(
            link.list_queues, self._wake, self._source.check, "which queues it has"
        )
        return found

    def missing(self, places: tuple[Place, ...]) -> Steps[tuple[Place, ...]]:
        """Those that the destination does not have."""
        missing = []
        for place in places:
            if place.kind == "scheduled" or not isinstance(self._destination.link, CountsQueues):
                continue
            try:
                yield from self._count(self._destination, place.name)
            except TopologyMismatch:
                missing.append(place)
        return tuple(missing)

    def unknown(self, places: tuple[Place, ...]) -> tuple[Place, ...]:
        """Those that we could not declare."""
        return tuple(place for place in places if declarable(place, self._topology) is None)

    def declare(self, places: tuple[Place, ...]) -> Steps[None]:
        """Make the destination have these queues, by consuming them for a moment.

        :raises TopologyMismatch: nobody knows how to declare them.
        """
        for place in self.unknown(places):
            raise TopologyMismatch(gone(place))
        link = self._destination.link
        needed = lasting(self._topology) if self._topology is not None else Topology()
        link.declare(Topology(exchanges=needed.exchanges))
        for place in places:
            queue = declarable(place, self._topology)
            assert queue is not None
            name = f"declare-{place.name}"
            # Nothing is in a queue that did not exist before; what comes meanwhile goes back with the release.
            link.consume(ConsumerSpec(name=name, queue=queue, topology=needed, prefetch=1), _Nobody())
            yield Ready(link)
            link.release(name)

    def _count(self, side: Side, queue: str) -> Steps[QueueCount]:
        link = side.link
        assert isinstance(link, CountsQueues)
        ask = partial(link.count_queue, queue)
        found: QueueCount = yield from answer(ask, self._wake, side.check, f"how many messages wait in {queue!r}")
        return found


def gone(place: Place) -> str:
    """What to say of a queue that the destination does not have."""
    if place.kind == "scheduled":
        return "the destination does not have the exchange of a delayed message: start its service there once"
    return (
        f"the destination has no queue {place.name!r}: start its service there once, give the program "
        "(--app package.module:bus), or use eventbus topology apply"
    )


class _Nobody:
    """Listens to a consumer that is there only to have its queue declared."""

    def delivered(self, incoming: Incoming, /) -> None:
        """It goes back when the consumer is released."""

    def started(self, queue: str, /) -> None:
        """The link says so too."""

    def stopped(self, error: Exception | None, /) -> None:
        """The link says so too."""
