"""Dead letters, for asyncio."""

from __future__ import annotations

import asyncio
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
from eventbus._steps import CLOSE_SECONDS, run_async_steps


class AsyncDeadLetters(DeadLettersBase):
    """The dead letters of a bus's subscriptions, or of the queues named: :class:`eventbus.dead_letters.DeadLetters`
    with ``await``. A cancelled method is an interruption like any other."""

    async def list(self, where: DeadLetterFilter = EVERYTHING, *, limit: int | None = 100) -> FoundDeadLetters:
        """Dead letters, those that died last if there are more than ``limit``. Looks at all, and changes nothing."""
        finding = Finding(where, limit)
        tour = await self._go(finding)
        return FoundDeadLetters(messages=finding.found(), **tour.noted())

    async def get(self, id: str) -> DeadMessage | None:
        """The dead letter with this id, the last one if there are several; None without one."""
        return next(iter(await self.list(DeadLetterFilter(ids=(id,)), limit=1)), None)

    async def groups(self, where: DeadLetterFilter = EVERYTHING) -> GroupedDeadLetters:
        """Dead letters counted by queue, error type and digest. Looks at all, and changes nothing."""
        grouping = Grouping(where)
        tour = await self._go(grouping)
        return GroupedDeadLetters(groups=grouping.found(), **tour.noted())

    async def replay(
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
        return report_of(await self._go(replaying), replaying)

    async def discard(
        self,
        where: DeadLetterFilter = EVERYTHING,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        moved: Callable[[DeadMessage], None] | None = None,
    ) -> DeadLetterReport:
        """Delete dead letters for good, the first ``limit`` that are meant; ``moved`` is called for each."""
        discarding = Discarding(where, limit, dry_run, moved)
        return report_of(await self._go(discarding), discarding)

    async def _go(self, visit: Visit) -> Tour:
        tour = Tour(self, visit)
        for place in tour.places():
            with tour.at(place):
                while not await self._walk(tour, place):
                    pass
        return tour

    async def _walk(self, tour: Tour, place: Place) -> bool:
        news = asyncio.Event()
        arrivals = Arrivals(news.set)
        link = self._transport.async_link(self._settings, lambda status: None)
        try:
            return await run_async_steps(tour.steps(place, link, arrivals), news, self._timeout)
        finally:
            await link.close(CLOSE_SECONDS)
