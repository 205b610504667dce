"""A move, for threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from eventbus._moving._base import MoveBase
from eventbus._moving._values import MoveReport
from eventbus._steps import CLOSE_SECONDS, run_steps


class Move(MoveBase):
    """Carries messages that wait in queues of one broker to the queues of the same names at another.

    ``source`` and ``destination`` are each a bus, a transport or a URL. Which queues: ``queues``; else those of
    ``topology`` (a bus brings its own); else all that the source can list; of the latter two only those of ``group``,
    if it is given. ``dead_letters`` means the dead-letter queues beside them too; ``scheduled`` the delayed messages
    that no queue has yet, where the source hands them out. The destination must have the queues, or they are declared
    by the topology.

    ``window`` is the most messages under way, ``timeout`` seconds for connecting and for each confirm, ``patience``
    seconds without any progress (with either side away, say) after which it gives up. ``max_body`` is the most bytes of
    a body that is read (a bus's own, else 16 MiB).
    """

    def run(
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
        news = threading.Event()
        mover = self._mover(news.set, rate, limit, dry_run, follow, moved)
        source = self._source.sync_link(self._settings, mover.source.changed)
        destination = self._destination.sync_link(self._settings, mover.destination.changed)
        mover.source.linked(source)
        mover.destination.linked(destination)
        try:
            return run_steps(mover.steps(), news, self._timeout)
        finally:
            # The source first: nothing is taken out any more that is not confirmed.
            source.close(CLOSE_SECONDS)
            destination.close(CLOSE_SECONDS)
