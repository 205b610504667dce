"""Whether a queue is empty: asked of a broker that may have messages on their way to us."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from eventbus._errors import ConnectionFailed
from eventbus._inspection import InspectsQueues, QueueCount
from eventbus._moving._flow import Flow, Side
from eventbus._steps import Steps, Wait, answer

LOOK_AGAIN_SECONDS = 0.01
STALLED_SECONDS = 15.0


class Emptying:
    """Asks the source. ``busy`` says whether something has come, ``stopping`` whether the answer is still wanted."""

    def __init__(
        self,
        source: Side,
        *,
        wake: Callable[[], None],
        busy: Callable[[], bool],
        stopping: Callable[[], bool],
        note: Callable[[str], None],
    ) -> None:
        self._source = source
        self._wake, self._busy, self._stopping, self._note = wake, busy, stopping, note
        self.shared: set[str] = set()
        """Queues with consumers beside ours."""

    def all(self, flows: list[Flow]) -> Steps[bool]:
        """Whether nothing waits in any of them."""
        for flow in flows:
            if not (yield from self._empty(flow)):
                yield Wait(LOOK_AGAIN_SECONDS)
                return False
        return True

    def _empty(self, flow: Flow) -> Steps[bool]:
        """Nothing waits, says the source twice, and nothing has come: then what was on its way has come too."""
        for _ in range(2):
            left = yield from self._count(flow)
            if left is None or self._busy():
                return False
            if left.ready:
                if time.monotonic() - flow.quiet_since < STALLED_SECONDS:
                    return False
                self._note(
                    f"{flow.place.name}: the source hands out none of the messages there; perhaps another consumer is "
                    "the only active one: stop the services that consume it there"
                )
                return True
            if left.consumers > len(flow.consumers):
                self.shared.add(flow.place.name)
            yield Wait(LOOK_AGAIN_SECONDS)
        return not self._busy()

    def _count(self, flow: Flow) -> Steps[QueueCount | None]:
        link = self._source.link
        assert isinstance(link, InspectsQueues)
        if not self._source.ready:
            return None
        ask = partial(link.count, flow.consumers[-1].name)
        try:
            found: QueueCount = yield from answer(ask, self._wake, self._check, "how many messages are left")
        except (ConnectionFailed, _Interrupted):
            return None
        return found

    def _check(self) -> None:
        self._source.check()
        if self._stopping() or not self._source.ready:
            raise _Interrupted


class _Interrupted(Exception):
    """There will be no answer, or nobody wants it."""
