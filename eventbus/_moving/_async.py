"""A move, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from eventbus._moving._base import MoveBase
from eventbus._moving._values import MoveReport
from eventbus._steps import CLOSE_SECONDS, run_async_steps


class AsyncMove(MoveBase):
    """The same as :class:`eventbus.moving.Move`, with ``await``. A cancelled move has lost nothing either."""

    async def run(
        self,
        *,
        rate: float | None = None,
        limit: int | None = None,
        dry_run: bool = False,
        follow: bool = False,
        moved: Callable[[str, str], None] | None = None,
    ) -> MoveReport:
        """Move until the queues are empty; with ``follow`` until :meth:`stop`.

        At most ``rate`` messages a second and ``limit`` in all. ``dry_run`` only counts. ``moved`` is called for each
        message with its queue and id.

        Each is confirmed at the destination before it is acked at the source, so whatever ends this, nothing is lost,
        and the same call goes on where it ended. A message that may have been sent before is marked as redelivered.

        :raises TopologyMismatch: a queue does not exist, at the source or at the destination; nothing was removed.
        :raises ConnectionFailed: one side cannot be reached, or there was no progress for ``patience`` seconds.
        :raises ConfigurationError: there is nothing to move, or the source cannot be looked into.
        """
        news = asyncio.Event()
        mover = self._mover(news.set, rate, limit, dry_run, follow, moved)
        source = self._source.async_link(self._settings, mover.source.changed)
        destination = self._destination.async_link(self._settings, mover.destination.changed)
        mover.source.linked(source)
        mover.destination.linked(destination)
        try:
            return await run_async_steps(mover.steps(), news, self._timeout)
        finally:
            # The source first: nothing is taken out any more that is not confirmed.
            await source.close(CLOSE_SECONDS)
            await destination.close(CLOSE_SECONDS)
