"""The publishes of one ``publish_many`` of a task."""

from __future__ import annotations

import asyncio

from eventbus._bus._batches import Batch


class TaskBatch(Batch):
    """For a task that waits."""

    def __init__(self) -> None:
        super().__init__()
        self._zero: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _all_ended(self) -> None:
        if not self._zero.done():
            self._zero.set_result(None)

    async def result(self) -> int:
        """Wait for the outcomes; how many were confirmed. :raises PublishManyError: not all were."""
        self._closing = True
        if self._open:
            await asyncio.wait({self._zero}, timeout=self._patience())
        return self._result()
