"""What is under way in a move: the queues that flow, their consumers at the source, and the messages between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from eventbus._message import Incoming
from eventbus._moving._values import MovedQueue, Place
from eventbus._supervisor import Phase
from eventbus.transport import AsyncLink, LinkStatus, SyncLink


class Side:
    """The source or the destination: its link, and what it last said of itself."""

    def __init__(self, name: str, wake: Callable[[], None]) -> None:
        self.name = name
        self.status = LinkStatus(phase=Phase.IDLE)
        self._wake = wake
        self._link: SyncLink | AsyncLink | None = None

    @property
    def link(self) -> SyncLink | AsyncLink:
        """Its link."""
        assert self._link is not None
        return self._link

    def linked(self, link: SyncLink | AsyncLink) -> None:
        """Its link is made."""
        self._link = link

    def changed(self, status: LinkStatus) -> None:
        """The link's status has changed; called on its thread or loop."""
        self.status = status
        self._wake()

    @property
    def ready(self) -> bool:
        """Whether it is connected and its consumers run."""
        status = self.status
        return status.phase is Phase.READY and all(one.phase is Phase.READY for one in status.consumers.values())

    @property
    def connected(self) -> bool:
        """Whether it is connected."""
        return self.status.phase is Phase.READY

    @property
    def error(self) -> Exception | None:
        """What is in the way."""
        return next((error for _, error in self._states() if error is not None), None)

    def check(self) -> None:
        """Raise what trying again does not mend."""
        for phase, error in self._states():
            if phase is Phase.FAILED and error is not None:
                raise error

    def _states(self) -> list[tuple[Phase, Exception | None]]:
        status = self.status
        return [(status.phase, status.error), *((one.phase, one.error) for one in status.consumers.values())]


class Flow:
    """One queue on its way, and what is counted of it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.consumers: list[Consumer] = []
        self.moved = 0
        self.marked = 0
        self.empty = False
        """Whether nothing was left in it when it was last asked for."""
        self.quiet_since = 0.0

    @property
    def left(self) -> int:
        """Messages that cannot be moved. They are held, so that the source does not hand them out again."""
        return sum(consumer.held for consumer in self.consumers)

    def report(self) -> MovedQueue:
        """What became of it."""
        return MovedQueue(name=self.place.name, moved=self.moved, marked=self.marked, left=self.left)


class Consumer:
    """One consumer at the source, as its link's listener: what it hears waits in ``inbox``."""

    def __init__(
        self,
        name: str,
        flow: Flow,
        prefetch: int,
        inbox: deque[tuple[Consumer, Incoming | Exception]],
        wake: Callable[[], None],
    ) -> None:
        self.name, self.flow, self.prefetch = name, flow, prefetch
        self.life = 0
        """Grows when the consumer is lost: what it had brought is back in its queue then."""
        self.held = 0
        self._inbox, self._wake = inbox, wake

    def delivered(self, incoming: Incoming, /) -> None:
        """A message has come."""
        self._inbox.append((self, incoming))
        self._wake()

    def started(self, queue: str, /) -> None:
        """It runs; the link says so too."""

    def stopped(self, error: Exception | None, /) -> None:
        """It is gone."""
        if error is not None:
            self._inbox.append((self, error))
            self._wake()


class Item:
    """A message on its way. ``sent``: it may have been taken already, without a confirm."""

    __slots__ = ("consumer", "incoming", "life", "marked", "number", "sent")

    def __init__(self, incoming: Incoming, consumer: Consumer) -> None:
        self.incoming = incoming
        self.consumer = consumer
        self.life = consumer.life
        self.number = 0
        self.sent = False
        self.marked = False

    @property
    def stale(self) -> bool:
        """Whether the source hands it out again anyway."""
        return self.life != self.consumer.life
