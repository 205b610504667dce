"""Links to a broker and to a store that do everything one step at a time, so that a test can choose any order of steps.

The broker's link behaves as RabbitMQ's: what is unconfirmed when the connection is lost is sent again after a
reconnect, until its deadline, and the news of a loss may come late. Time is the simulation's.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from eventbus import ConnectionFailed, Message, NotSent, PublishError, PublishUnknown
from eventbus._spool._actions import Action, Keep, Send
from eventbus._spool._core import SpoolCore
from eventbus._spool._values import SpoolSettings
from eventbus.transport import (
    ConsumerSpec,
    ConsumerStatus,
    DeadLetter,
    Incoming,
    LinkStatus,
    Phase,
    QueueCount,
    Topology,
)

LOST = ConnectionFailed("lost")


class Clock:
    """Stands in for the time module."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1e9

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), function))

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            due, _, function = heapq.heappop(self._timers)
            self.now = max(self.now, due)
            function()
        self.now = until


class Broker:
    """What the broker has received, as message ids, and what it says to some before it takes them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.refusals: dict[str, list[PublishError]] = {}

    def receive(self, message: Message) -> PublishError | None:
        refusals = self.refusals.get(message.id)
        if refusals:
            return refusals.pop(0)
        self.log.append(message.id)
        return None


class Try:
    """A publish at the broker's link."""

    def __init__(self, message: Message, deadline: float, done: Callable[[PublishError | None], None]) -> None:
        self.message, self.deadline, self.done = message, deadline, done
        self.sent = False


class BrokerLink:
    """A bus's link to the broker."""

    def __init__(self, clock: Clock, broker: Broker) -> None:
        self.clock, self.broker = clock, broker
        self.on_status: Callable[[LinkStatus], None] = lambda status: None
        self.doubtful: set[str] = set()
        """Messages whose outcome could not be known at some time."""
        self._phase = Phase.CONNECTING
        self._blocked: str | None = None
        self._waiting: deque[Try] = deque()
        self._wire: deque[Try] = deque()
        self._answered: deque[tuple[Try, PublishError | None]] = deque()
        self._told: tuple[Phase, str | None] = (Phase.IDLE, None)

    # -- the contract, as far as a spool uses it ----------------------------------------------------------

    def open(self) -> None:
        self.tell()

    def declare(self, topology: Topology) -> None:
        pass

    def publish(self, message: Message, *, deadline: float, done: Callable[[PublishError | None], None]) -> None:
        self._waiting.append(Try(message, deadline, done))

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        self.clock.later(seconds, function)

    def status(self) -> LinkStatus:
        return LinkStatus(phase=self._phase, blocked=self._blocked)

    # -- steps --------------------------------------------------------------------------------------------

    def tell(self) -> None:
        """The news of its state arrive."""
        if self._told != (self._phase, self._blocked):
            self._told = (self._phase, self._blocked)
            self.on_status(self.status())

    def write(self, most: int) -> None:
        if self._phase is Phase.READY and self._blocked is None:
            for _ in range(min(most, len(self._waiting))):
                one = self._waiting.popleft()
                one.sent = True
                self._wire.append(one)

    def receive(self, most: int) -> None:
        """The broker takes what is on the wire."""
        for _ in range(min(most, len(self._wire))):
            one = self._wire.popleft()
            self._answered.append((one, self.broker.receive(one.message)))

    def answer(self, most: int) -> None:
        for _ in range(min(most, len(self._answered))):
            one, error = self._answered.popleft()
            one.done(error)

    def lose(self) -> None:
        """The connection is gone, with what was on it: all without an outcome are sent again later."""
        if self._phase is Phase.READY:
            self._phase, self._blocked = Phase.WAITING, None
            again = [one for one, _ in self._answered] + list(self._wire)
            self.doubtful.update(one.message.id for one in again)
            self._waiting.extendleft(reversed(again))
            self._wire.clear()
            self._answered.clear()

    def fail(self) -> None:
        """The first connect fails."""
        if self._phase is Phase.CONNECTING:
            self._phase = Phase.WAITING

    def connect(self) -> None:
        self._phase = Phase.READY

    def block(self) -> None:
        if self._phase is Phase.READY:
            self._blocked = "alarm"

    def unblock(self) -> None:
        self._blocked = None

    def sweep(self) -> None:
        """Give up what is past its deadline."""
        now = self.clock.now
        late = [one for one, _ in self._answered if one.deadline <= now]
        late += [one for one in (*self._wire, *self._waiting) if one.deadline <= now]
        # What is on the wire cannot be called back: the broker gets it, and its answer finds nobody.
        self.doubtful.update(one.message.id for one in late if one.sent)
        self._answered = deque(pair for pair in self._answered if pair[0] not in late)
        self._waiting = deque(one for one in self._waiting if one not in late)
        for one in late:
            done, one.done = one.done, lambda error: None
            done(PublishUnknown("no confirm") if one.sent else NotSent("not connected"))

    def busy(self) -> bool:
        return bool(self._waiting or self._wire or self._answered or self._told != (self._phase, self._blocked))


class Depot:
    """The store: queues by name, the queue of events with one active consumer."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.ready: deque[Message] = deque()
        self.line: list[DepotLink] = []
        self.dead: list[str] = []
        self.links: list[DepotLink] = []


class DepotLink:
    """A bus's link to the store."""

    def __init__(self, clock: Clock, depot: Depot, name: str) -> None:
        self.clock, self.depot, self.address = clock, depot, f"notices-{name}"
        depot.links.append(self)
        self.lost: set[str] = set()
        """Events whose ack may have been lost."""
        self._pending: deque[Callable[[], None]] = deque()
        self._listeners: dict[str, Any] = {}
        self._prefetch = 0
        self._wanted = False
        self._held: dict[int, Message] = {}
        self._settling: set[int] = set()
        self._tokens = itertools.count()

    # -- the contract, as far as a spool uses it ----------------------------------------------------------

    def open(self) -> None:
        pass

    def consume(self, spec: ConsumerSpec, listener: Any) -> None:
        self._listeners[spec.name] = listener
        if spec.queue.name:
            assert spec.queue.single_active_consumer
            self._prefetch, self._wanted = 3, True
            self._pending.append(self._start)
        else:
            self._pending.append(lambda: listener.started(self.address))

    def _start(self) -> None:
        if not self._wanted or self in self.depot.line:
            return
        self.depot.line.append(self)
        self._listeners["(spool)"].started(self.depot.queue)

    def publish(self, message: Message, *, deadline: float, done: Callable[[PublishError | None], None]) -> None:
        def commit() -> None:
            if message.topic == self.depot.queue:
                self.depot.ready.append(message)
            else:
                for link in self.depot.links:
                    if link.address == message.topic:
                        link._pending.append(partial(link._listeners["(spool notices)"].delivered, arrival(message, 0)))
            done(None)

        self._pending.append(commit)

    def settle(self, incoming: Incoming, settlement: Any) -> None:
        message = self._held.get(incoming.token)
        if message is not None:
            self._settling.add(incoming.token)
            self._pending.append(lambda: self._settled(incoming.token, settlement))

    def _settled(self, token: int, settlement: Any) -> None:
        message = self._held.pop(token, None)
        if message is not None and isinstance(settlement, DeadLetter):
            self.depot.dead.append(message.id)

    def release(self, name: str) -> None:
        self._pending.append(lambda: self.drop(None))

    def count_consumers(self, queue: str, done: Callable[[int | None], None]) -> None:
        done(len(self.depot.line))

    def count(self, consumer: str, done: Callable[[QueueCount | Exception], None]) -> None:
        done(QueueCount(ready=len(self.depot.ready), consumers=len(self.depot.line)))

    def status(self) -> LinkStatus:
        return LinkStatus(phase=Phase.READY, consumers={"(spool)": ConsumerStatus(phase=Phase.READY)})

    # -- steps --------------------------------------------------------------------------------------------

    def commit(self, most: int) -> None:
        for _ in range(min(most, len(self._pending))):
            self._pending.popleft()()

    def deliver(self) -> None:
        depot = self.depot
        if depot.line and depot.line[0] is self and depot.ready and len(self._held) < self._prefetch:
            message, token = depot.ready.popleft(), next(self._tokens)
            self._held[token] = message
            self._listeners["(spool)"].delivered(arrival(message, token))

    def drop(self, error: Exception | None) -> None:
        """The consumer ends: what it holds goes back in one step. By an error, and it comes back; or it is released."""
        running = self in self.depot.line
        if running:
            self.depot.line.remove(self)
            # An ack that was given and not carried out is lost with it; and when another bus may get the rest, it
            # cannot know what is on its way from here.
            others = error is not None and len(self.depot.links) > 1
            self.lost.update(message.id for token, message in self._held.items() if others or token in self._settling)
            self.depot.ready.extendleft(reversed(self._held.values()))
            self._held.clear()
        self._wanted = error is not None
        if running or error is None:
            self._listeners["(spool)"].stopped(error)
            if error is not None:
                self._pending.append(self._start)

    def busy(self) -> bool:
        active = self.depot.line[:1] == [self]
        return bool(self._pending or (active and self.depot.ready and len(self._held) < self._prefetch))


def arrival(message: Message, token: int) -> Incoming:
    return Incoming(message=message, consumer="(spool)", queue=message.topic, token=token)


class SimulatedBus(SpoolCore[Any]):
    """A bus's spool between the two, and what it has published."""

    def __init__(self, clock: Clock, depot: Depot, broker: Broker, name: str) -> None:
        settings = SpoolSettings(transport=None, queue=depot.queue, max_messages=10**6, max_age=1e9)  # type: ignore[arg-type]
        self.unheard: list[str] = []
        super().__init__(settings, lambda status: None, lambda health: None, self._note)
        self.clock, self.name = clock, name
        self.main = BrokerLink(clock, broker)
        self.main.on_status = self._main_changed
        self.depot_link = DepotLink(clock, depot, name)
        self._store.link = self.depot_link  # type: ignore[assignment]
        self.published: list[str] = []
        self.outcomes: dict[str, PublishError | None] = {}
        self.refused: set[str] = set()
        self.tried: set[str] = set()
        self.copied: set[str] = set()
        self.open()
        self.depot_link.commit(2)  # its consumers run

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Send):
            self.tried.add(action.item.message.id)
        elif isinstance(action, Keep):
            self.copied.add(action.item.message.id)
        super()._carry_out(action)

    def _note(self, message: Message) -> None:
        self.unheard.append(message.id)

    def doubtful(self, shared: bool) -> set[str]:
        """Events whose outcome could not be known at some time, by all that may know it."""
        # Another bus cannot know what became of a try here whose copy it finds in the spool.
        both = self.tried & self.copied if shared else set()
        return self.main.doubtful | self.depot_link.lost | both

    def emit(self, timeout: float, *refusals: PublishError, mandatory: bool = False) -> str:
        """Publish one event, which the broker refuses so often before it takes it."""
        id = f"{self.name}:{len(self.published)}"
        self.published.append(id)
        if refusals:
            self.refused.add(id)
            self.main.broker.refusals[id] = list(refusals)

        def done(error: PublishError | None) -> None:
            assert id not in self.outcomes, "each publish has one outcome"
            self.outcomes[id] = error

        message = Message(exchange="events", topic="t", body=b"{}", id=id, type="t")
        self.publish(message, deadline=self.clock.now + timeout, done=done, mandatory=mandatory)
        return id
