"""Dead letters, for threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from eventbus._dead_letters._tour import DeadLettersBase, Place, Tour, report_of
from eventbus._dead_letters._values import (
    EVERYTHING,
    DeadLetterFilter,
    DeadLetterReport,
    DeadMessage,
    FoundDeadLetters,
    GroupedDeadLetters,
)
from eventbus._dead_letters._visitors import Discarding, Finding, Grouping, Replaying, Visit
from eventbus._dead_letters._walking import Arrivals
from eventbus._steps import CLOSE_SECONDS, run_steps


class DeadLetters(DeadLettersBase):
    """The dead letters of a bus's subscriptions, or of the queues named.

    ``target`` is a bus, a transport or a URL. A bus knows its dead-letter queues, and so does a ``topology``; else, or
    where not all of them are meant, ``queues`` names them, or the queues of the groups. ``timeout`` is seconds for
    connecting, and for each confirm; ``max_body`` is the most bytes of a body that is read (a bus's own, else 16 MiB).

    Making one does nothing yet: each method connects, goes through the queues, and closes. It may be interrupted at any
    moment; what it has not dealt with stays in its queue. All raise ConnectionFailed when the broker cannot be reached
    or the connection is lost on the way, AccessRefused without permission, and TopologyMismatch when a queue of
    ``queues`` does not exist; dead-letter queues that a bus knows and that do not exist yet are only noted.
    """

    def list(self, where: DeadLetterFilter = EVERYTHING, *, limit: int | None = 100) -> FoundDeadLetters:
        """Dead letters, those that died last if there are more than ``limit``. Looks at all, and changes nothing."""
        finding = Finding(where, limit)
        tour = self._go(finding)
        return FoundDeadLetters(messages=finding.found(), **tour.noted())

    def get(self, id: str) -> DeadMessage | None:
        """The dead letter with this id, the last one if there are several; None without one."""
        return next(iter(self.list(DeadLetterFilter(ids=(id,)), limit=1)), None)

    def groups(self, where: DeadLetterFilter = EVERYTHING) -> GroupedDeadLetters:
        """Dead letters counted by queue, error type and digest. Looks at all, and changes nothing."""
        grouping = Grouping(where)
        tour = self._go(grouping)
        return GroupedDeadLetters(groups=grouping.found(), **tour.noted())

    def replay(
        self,
        where: DeadLetterFilter = EVERYTHING,
        *,
        rate: float | None = 100.0,
        limit: int | None = None,
        dry_run: bool = False,
        moved: Callable[[DeadMessage], None] | None = None,
    ) -> DeadLetterReport:
        """Send dead letters to the queues that they failed in, and no other group, as first attempts with the same ids.

        One after the other, at most ``rate`` a second (None: as fast as it goes), the first ``limit`` that are meant;
        ``moved`` is called for each. A dead letter is removed when the broker has confirmed its copy, so an
        interruption loses nothing, and at worst one message is sent twice. What comes into a dead-letter queue
        meanwhile is left there.

        :raises PublishError: one was not confirmed; it may have been sent, and its dead letter is kept.
        """
        replaying = Replaying(where, limit, dry_run, moved, rate=rate, timeout=self._timeout)
        return report_of(self._go(replaying), replaying)

    def discard(
        self,
        where: DeadLetterFilter = EVERYTHING,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        moved: Callable[[DeadMessage], None] | None = None,
    ) -> DeadLetterReport:
        """Delete dead letters for good, the first ``limit`` that are meant; ``moved`` is called for each."""
        discarding = Discarding(where, limit, dry_run, moved)
        return report_of(self._go(discarding), discarding)

    def _go(self, visit: Visit) -> Tour:
        tour = Tour(self, visit)
        for place in tour.places():
            with tour.at(place):
                while not self._walk(tour, place):
                    pass
        return tour

    def _walk(self, tour: Tour, place: Place) -> bool:
        news = threading.Event()
        arrivals = Arrivals(news.set)
        link = self._transport.sync_link(self._settings, lambda status: None)
        try:
            return run_steps(tour.steps(place, link, arrivals), news, self._timeout)
        finally:
            link.close(CLOSE_SECONDS)
