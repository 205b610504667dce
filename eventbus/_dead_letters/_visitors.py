"""What is done with dead letters, one by one: found, grouped, replayed or discarded."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

from eventbus._dead_letters._reading import read_dead_letter
from eventbus._dead_letters._replaying import replay_copy, why_not
from eventbus._dead_letters._values import DeadLetterFilter, DeadLetterGroup, DeadLetterQueue, DeadMessage
from eventbus._dead_letters._walking import Walk
from eventbus._errors import Unroutable
from eventbus._message import Incoming
from eventbus._steps import Steps, Wait

MAX_PROBLEMS = 20
MAX_GROUPS = 10_000


class Visit:
    """What all have in common: which dead letters are meant, and how many were; see :class:`Visitor`."""

    def __init__(self, where: DeadLetterFilter) -> None:
        self.where = where
        self.place = DeadLetterQueue("")
        self.matched = 0

    @property
    def full(self) -> bool:
        """Whether it has had enough."""
        return False

    @property
    def again(self) -> bool:
        """Whether it does no harm to show it a message for the second time."""
        return False

    def visit(self, incoming: Incoming, walk: Walk) -> Steps[bool]:
        """Look whether it is meant, and do it; gives whether it is settled."""
        dead = read_dead_letter(incoming, self.place)
        if not self.where.matches(dead):
            return False
        self.matched += 1
        return (yield from self.do(dead, incoming, walk))

    def do(self, dead: DeadMessage, incoming: Incoming, walk: Walk) -> Steps[bool]:
        """Do it with one that is meant; gives whether it is settled."""
        raise NotImplementedError


class Finding(Visit):
    """Keeps the dead letters that died last, up to the limit: so it looks at all of them."""

    def __init__(self, where: DeadLetterFilter, limit: int | None) -> None:
        super().__init__(where)
        self._most = limit
        self._kept: list[tuple[float, int, DeadMessage]] = []
        self._numbers = itertools.count()

    def do(self, dead: DeadMessage, incoming: Incoming, walk: Walk) -> Steps[bool]:
        """Keep it, at the cost of the one that died first."""
        yield from ()
        item = (dead.died or 0.0, next(self._numbers), dead)
        if self._most is None or len(self._kept) < self._most:
            heapq.heappush(self._kept, item)
        else:
            heapq.heappushpop(self._kept, item)
        return False

    def found(self) -> tuple[DeadMessage, ...]:
        """Those that were kept, in the order of their deaths."""
        return tuple(dead for _, _, dead in sorted(self._kept, key=lambda item: item[:2]))


class Grouping(Visit):
    """Counts dead letters that failed alike."""

    def __init__(self, where: DeadLetterFilter) -> None:
        super().__init__(where)
        self._groups: dict[tuple[str, str, str], DeadLetterGroup] = {}

    def do(self, dead: DeadMessage, incoming: Incoming, walk: Walk) -> Steps[bool]:
        """Count it."""
        yield from ()
        key = (dead.queue, dead.error_type or dead.reason, dead.digest)
        if key not in self._groups and len(self._groups) >= MAX_GROUPS:
            key = (dead.queue, "(others)", "")  # strangers can write digests
        known = self._groups.get(key)
        before = (known.first, known.last) if known is not None else ()
        times = [one for one in (dead.died, *before) if one is not None]
        self._groups[key] = DeadLetterGroup(
            queue=key[0],
            error_type=key[1],
            digest=key[2],
            count=known.count + 1 if known is not None else 1,
            reason=known.reason if known is not None else dead.reason,
            error=known.error if known is not None else dead.error,
            example=known.example if known is not None else dead.id,
            first=min(times, default=None),
            last=max(times, default=None),
        )
        return False

    def found(self) -> tuple[DeadLetterGroup, ...]:
        """The groups, the largest first."""
        return tuple(sorted(self._groups.values(), key=lambda group: (-group.count, group.queue, group.error_type)))


class Moving(Visit):
    """Takes dead letters out of their queue, or only counts them in a dry run."""

    def __init__(
        self, where: DeadLetterFilter, limit: int | None, dry_run: bool, moved: Callable[[DeadMessage], None] | None
    ) -> None:
        super().__init__(where)
        self.limit = limit
        self.dry_run = dry_run
        self.done = 0
        self.problems: dict[str, int] = {}
        self._moved = moved
        self._left: set[int] = set()

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.done >= self.limit

    @property
    def again(self) -> bool:
        """Those that were left are known."""
        return not self.dry_run

    def do(self, dead: DeadMessage, incoming: Incoming, walk: Walk) -> Steps[bool]:
        """Move it, unless something is in the way."""
        key = hash((dead.queue, dead.id))
        if key in self._left:
            self.matched -= 1
            return False
        problem = self.problem(dead)
        if problem is None and not self.dry_run:
            problem = yield from self.move(dead, incoming, walk)
        if problem is not None:
            self._note(problem)
            if not self.dry_run:
                self._left.add(key)
            return False
        self.done += 1
        if self._moved is not None:
            self._moved(dead)
        return not self.dry_run

    def problem(self, dead: DeadMessage) -> str | None:
        """Why it stays, known before anything is tried."""
        return None

    def move(self, dead: DeadMessage, incoming: Incoming, walk: Walk) -> Steps[str | None]:
        """Move it; gives why it stays, or None."""
        raise NotImplementedError

    def _note(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) >= MAX_PROBLEMS:
            problem = "and more"
        self.problems[problem] = self.problems.get(problem, 0) + 1


class Discarding(Moving):
    """Acks dead letters, so that the broker forgets them."""

    def move(self, dead: DeadMessage, incoming: Incoming, walk: Walk) -> Steps[str | None]:
        """Forget it."""
        yield from ()
        walk.ack(incoming)
        return None


class Replaying(Moving):
    """Sends dead letters to the queue that they failed in, one at a time, at most ``rate`` a second.

    The next one is sent when the broker has confirmed this one and has carried out the ack of its dead letter. So
    whatever ends this process, at most one message is in both queues.
    """

    def __init__(
        self,
        where: DeadLetterFilter,
        limit: int | None,
        dry_run: bool,
        moved: Callable[[DeadMessage], None] | None,
        *,
        rate: float | None,
        timeout: float,
    ) -> None:
        super().__init__(where, limit, dry_run, moved)
        self._pause = 1 / rate if rate is not None else 0.0
        self._timeout = timeout
        self._due = 0.0
        self._sent: set[int] = set()
        self._gone: set[str] = set()

    def problem(self, dead: DeadMessage) -> str | None:
        """Not what cannot be copied, and nothing twice: what fails again meanwhile is for the next replay."""
        if dead.queue in self._gone:
            return _gone(dead)
        if hash((dead.queue, dead.id)) in self._sent:
            return f"{dead.dead_queue}: messages came back while this replay ran"
        return why_not(dead)

    def move(self, dead: DeadMessage, incoming: Incoming, walk: Walk) -> Steps[str | None]:
        """Send it, and ack its dead letter when the broker has confirmed it."""
        while (left := self._due - time.monotonic()) > 0:
            yield Wait(left)
        self._due = time.monotonic() + self._pause
        self._sent.add(hash((dead.queue, dead.id)))
        error = yield from walk.publish(replay_copy(dead), self._timeout)
        if isinstance(error, Unroutable):
            self._gone.add(dead.queue)
            return _gone(dead)
        if error is not None:
            raise error
        walk.ack(incoming)
        yield from walk.count()
        return None


def _gone(dead: DeadMessage) -> str:
    return f"{dead.dead_queue}: queue {dead.queue!r} does not exist any more"
