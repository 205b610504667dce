"""Which delivery of an ordered subscription may be handled now. No lock, no time, no waiting: both buses use it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Turn(Generic[T]):
    """One delivery, from its arrival to the end of its last attempt.

    ``running``: a handler has it. ``held``: it has failed, and waits to be tried again. ``over``: nothing is left to do
    here. ``lost``: the broker has taken it back while a handler had it.
    """

    __slots__ = ("again", "chain", "held", "item", "lane", "lost", "over", "running")

    def __init__(self, lane: int, key: str | None, item: T) -> None:
        self.lane = lane
        self.chain = None if key is None else (lane, key)
        self.item = item
        self.running = False
        self.held = False
        self.again = False
        self.over = False
        self.lost = False


class KeyedLine(Generic[T]):
    """At most ``concurrency`` turns run at once, and of each key at most one has begun; the others wait behind it.

    A key that fails holds up nobody else: its turn gives its place back while it is held, and keeps its key. Lanes are
    the queues that turns come from; the same key in two lanes is two keys. Turns without a key wait for a place only.
    Where more keys could go on than there are places, they take turns.
    """

    def __init__(self, concurrency: int) -> None:
        self._free = self._all = concurrency
        self._ready: deque[Turn[T]] = deque()
        # Keys of which a turn is ready, runs, is held or waits to be settled, each with those behind it.
        self._behind: dict[tuple[int, str], deque[Turn[T]]] = {}
        self._begun: dict[Turn[T], None] = {}

    @property
    def running(self) -> int:
        """Turns that handlers have."""
        return self._all - self._free

    @property
    def parked(self) -> int:
        """Turns that wait for something else than a place: for their time, for their settlement, for their key."""
        return sum(not turn.running for turn in self._begun) + sum(map(len, self._behind.values()))

    @property
    def idle(self) -> bool:
        """Whether no handler runs and none could."""
        return not self.running and not self._ready

    def running_in(self, lane: int) -> int:
        """Turns of one lane that handlers have."""
        return sum(turn.running for turn in self._begun if turn.lane == lane)

    def put(self, lane: int, key: str | None, item: T) -> Turn[T]:
        """A delivery has come."""
        turn = Turn(lane, key, item)
        if turn.chain is None:
            self._ready.append(turn)
        elif turn.chain in self._behind:
            self._behind[turn.chain].append(turn)
        else:
            self._behind[turn.chain] = deque()
            self._ready.append(turn)
        return turn

    def take(self) -> Iterator[Turn[T]]:
        """The turns that begin now."""
        while self._free and self._ready:
            turn = self._ready.popleft()
            self._free -= 1
            self._begun[turn] = None
            turn.running = True
            yield turn

    def ended(self, turn: Turn[T]) -> None:
        """Its handler has ended: the place is free. The key is not, until the turn is over."""
        turn.running = False
        self._free += 1
        if turn.lost:
            self.finish(turn)
        elif turn.again:
            turn.again = False
            self._ready.appendleft(turn)

    def finish(self, turn: Turn[T]) -> None:
        """It is settled for good: the next one of its key is ready."""
        if turn.over:
            return
        turn.over = True
        self._begun.pop(turn, None)
        if turn.chain is None:
            return
        behind = self._behind[turn.chain]
        if behind:
            self._ready.append(behind.popleft())
        else:
            del self._behind[turn.chain]

    def hold(self, turn: Turn[T]) -> None:
        """It has failed, and is to be tried again later; its key waits."""
        turn.held = not turn.lost and not turn.over

    def resume(self, turn: Turn[T]) -> None:
        """The time to try again has come: it goes before all others."""
        if not turn.held:
            return
        turn.held = False
        if turn.running:
            turn.again = True
        else:
            self._ready.appendleft(turn)

    def forget(self, lane: int) -> list[Turn[T]]:
        """Drop what no handler has: the broker hands it out again. What runs keeps its key until its handler ends."""
        dropped = [turn for turn in self._ready if turn.lane == lane]
        self._ready = deque(turn for turn in self._ready if turn.lane != lane)
        ours = [turn for turn in self._begun if turn.lane == lane]
        dropped += [turn for turn in ours if not turn.running and turn not in dropped]
        for turn in dropped:
            turn.over, turn.held = True, False
            self._begun.pop(turn, None)
        running = [turn for turn in ours if turn.running]
        for turn in running:
            turn.lost, turn.held, turn.again = True, False, False
        busy = {turn.chain for turn in running if not turn.over}
        for chain in [chain for chain in self._behind if chain[0] == lane]:
            dropped += self._behind[chain]
            for turn in self._behind[chain]:
                turn.over = True
            self._behind[chain] = deque()
            if chain not in busy:
                del self._behind[chain]
        return dropped
