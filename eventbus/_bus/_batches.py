"""The publishes of one ``publish_many``: forgotten where all goes well, kept where it does not."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from eventbus._bus._sending import PATIENCE, SILENT, Leavable, Sending
from eventbus._errors import PublishError, PublishManyError, PublishUnknown

if TYPE_CHECKING:
    from eventbus._bus._core import BusCore
    from eventbus._outgoing import PublishOptions


class Batch:
    """Its members report here, from whatever thread; single steps on dicts and lists need no lock."""

    def __init__(self) -> None:
        self.count = 0
        self._open: dict[int, Member] = {}
        self._failures: list[tuple[int, object, PublishError]] = []
        self._closing = False

    def member(self, bus: BusCore, window: Leavable, event: Any, options: PublishOptions) -> Member:
        """The next publish. :raises NotSent: it cannot be encoded; the caller reports that by :meth:`failed`."""
        made = Member(bus, window, event, options, self, self.count)
        self._open[self.count] = made
        return made

    def failed(self, event: object, error: PublishError) -> None:
        """The next publish was not even begun."""
        self._open.pop(self.count, None)
        self._failures.append((self.count, event, error))

    def ended(self, member: Member, error: PublishError | None) -> None:
        """One has its outcome."""
        if error is not None:
            self._failures.append((member.position, member.event, error))
        del self._open[member.position]
        if self._closing and not self._open:
            self._all_ended()

    def _all_ended(self) -> None:
        raise NotImplementedError

    def _patience(self) -> float:
        """Seconds until the last one that is open must have its outcome."""
        return max(0.0, max(member.deadline for member in list(self._open.values())) + PATIENCE - time.monotonic())

    def _result(self) -> int:
        failures = self._failures + [(m.position, m.event, PublishUnknown(SILENT)) for m in list(self._open.values())]
        confirmed = self.count - len(failures)
        if failures:
            raise PublishManyError(confirmed, sorted(failures, key=lambda failure: failure[0]))
        return confirmed


class Member(Sending):
    """One publish of a batch."""

    __slots__ = ("_batch", "event", "position")

    def __init__(
        self, bus: BusCore, window: Leavable, event: Any, options: PublishOptions, batch: Batch, position: int
    ) -> None:
        super().__init__(bus, window, event, options)
        self._batch = batch
        self.event = event
        self.position = position

    def _ended(self, error: PublishError | None) -> None:
        self._batch.ended(self, error)


class ThreadBatch(Batch):
    """For a thread that waits."""

    def __init__(self) -> None:
        super().__init__()
        self._zero = threading.Event()

    def _all_ended(self) -> None:
        self._zero.set()

    def result(self) -> int:
        """Wait for the outcomes; how many were confirmed. :raises PublishManyError: not all were."""
        self._closing = True
        if self._open:
            self._zero.wait(self._patience())
        return self._result()
